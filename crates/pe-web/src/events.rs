//! `/api/v1/events`: finished cycles and changes of state as server-sent events.
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::app::{Endless, Shared};
use crate::respond;

/// After so long without an event a comment is sent, so that proxies keep the connection and one that is gone is noticed.
const QUIET: Duration = Duration::from_secs(15);

pub(crate) async fn events(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let Some(history) = &shared.source.history else {
        return respond::text(StatusCode::NOT_FOUND, "no events are kept here\n");
    };
    let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
        return respond::busy("too many clients read events at this time\n");
    };
    let start = (history.events(), permit, true);
    let stream = stream::unfold(start, |(mut events, permit, is_first)| async move {
        let text = if is_first {
            "retry: 2000\n\n".to_owned()
        } else {
            match timeout(QUIET, events.recv()).await {
                Ok(Ok(event)) => format!("data: {event}\n\n"),
                Ok(Err(RecvError::Lagged(missed))) => format!("data: {{\"missed\":{missed}}}\n\n"),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => ": nothing new\n\n".to_owned(),
            }
        };
        Some((Ok::<_, Infallible>(text), (events, permit, false)))
    });
    let body = Body::from_stream(stream);
    let mut response = respond::with_type(StatusCode::OK, "text/event-stream", body);
    response.extensions_mut().insert(Endless);
    response
}
