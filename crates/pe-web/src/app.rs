//! Which request gets which answer, and what holds for all of them: passwords, a bound on how many are answered at one
//! time, and headers for browsers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pe_engine::EngineHandle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;

use crate::connections::{Place, REQUESTS, Responding};
use crate::exposition::Expositions;
use crate::secure::Secure;
use crate::{WebSettings, page, respond};

/// The longest body of a request. None has one that is read.
const LONGEST_BODY: usize = 64 << 10;

const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";
const RELOAD: &str = "/-/reload";

/// Headers of all responses that do not set them themselves. Nothing may run, be loaded, be framed or be cached.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// What all connections share. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct App {
    router: Router,
    requests: Arc<Semaphore>,
    secure: Arc<Secure>,
}

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) engine: EngineHandle,
    pub(crate) settings: WebSettings,
    expositions: Expositions,
}

/// Marks a response that has no end, so that no timeout ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endless;

impl App {
    pub(crate) fn new(engine: EngineHandle, settings: WebSettings, secure: Arc<Secure>) -> Self {
        let telemetry_path = settings.telemetry_path.clone();
        let has_reload = settings.reload.is_some();
        let pages = Router::new()
            .route("/", get(overview))
            .layer(CompressionLayer::new());
        // Its body is compressed where it is written, in a thread that may wait.
        let mut router = pages
            .route(&telemetry_path, get(metrics))
            .route(
                HEALTHY,
                get(|| async { respond::text(StatusCode::OK, "healthy\n") }),
            )
            .route(READY, get(ready));
        if has_reload {
            router = router.route(RELOAD, post(reload).put(reload));
        }
        let router = router
            .fallback(|| async {
                respond::text(
                    StatusCode::NOT_FOUND,
                    "not found; see / for what there is\n",
                )
            })
            .layer(RequestBodyLimitLayer::new(LONGEST_BODY))
            .with_state(Arc::new(Shared {
                engine,
                settings,
                expositions: Expositions::default(),
            }));
        Self {
            router,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            secure,
        }
    }

    /// Answers a request of the connection at `place`.
    pub(crate) async fn answer(
        self,
        place: Arc<Place>,
        request: Request<Incoming>,
    ) -> Response<Guarded> {
        let responding = place.request(Instant::now());
        // Health has places of its own, and needs no password: what asks is a supervisor.
        let is_health = matches!(request.uri().path(), HEALTHY | READY);
        let permit = match is_health {
            true => None,
            false => self.requests.clone().try_acquire_owned().ok(),
        };
        let secure = self.secure.current();
        let mut response = if !is_health && permit.is_none() {
            respond::busy("too many requests at this time\n")
        } else if !is_health && !secure.allows(request.headers()).await {
            unauthorized()
        } else {
            let request = request.map(Body::new);
            match self.router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        let headers = response.headers_mut();
        for (name, value) in secure.headers() {
            headers.insert(name, value.clone());
        }
        for (name, value) in HEADERS {
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        if response.extensions().get::<Endless>().is_some() {
            responding.endless();
        }
        response.map(|body| Guarded {
            body,
            _responding: responding,
            _permit: permit,
        })
    }
}

/// A body that keeps its connection busy until it has been handed over.
pub(crate) struct Guarded {
    body: Body,
    _responding: Responding,
    _permit: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn unauthorized() -> Response<Body> {
    let mut response = respond::text(
        StatusCode::UNAUTHORIZED,
        "a user name and a password are needed\n",
    );
    let asks = HeaderValue::from_static("Basic realm=\"PingExporter\", charset=\"UTF-8\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, asks);
    response
}

async fn metrics(
    State(context): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let engine = context.engine.clone();
    context.expositions.respond(engine, &method, &headers)
}

async fn overview(State(context): State<Arc<Shared>>) -> Response<Body> {
    let html = "text/html; charset=utf-8";
    respond::with_type(StatusCode::OK, html, page::status(&context.engine))
}

async fn ready(State(context): State<Arc<Shared>>) -> Response<Body> {
    match context.engine.is_ready() {
        true => respond::text(StatusCode::OK, "ready\n"),
        false => respond::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: not every group has finished its first cycle\n",
        ),
    }
}

async fn reload(State(context): State<Arc<Shared>>, headers: HeaderMap) -> Response<Body> {
    // A page of another site that the user has open must not reload anything.
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return respond::text(StatusCode::FORBIDDEN, "not from a page of another site\n");
    }
    let (reply, result) = oneshot::channel();
    let asked = match &context.settings.reload {
        Some(requests) => requests.try_send(reply).is_ok(),
        None => false,
    };
    if !asked {
        return respond::busy("a reload is under way\n");
    }
    match result.await {
        Ok(Ok(())) => respond::text(StatusCode::OK, "reloaded\n"),
        Ok(Err(problems)) => respond::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "the new configuration is not in order; the one before stays in force\n{problems}\n"
            ),
        ),
        Err(_) => respond::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the configuration was not loaded: the program is ending\n",
        ),
    }
}
