//! Which request gets which answer, and what holds for all of them: passwords, a bound on how many are answered at one
//! time, and headers for browsers.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, REFERRER_POLICY,
    TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pe_engine::EngineHandle;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tower::ServiceExt;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;

use crate::connections::{Place, Responding};
use crate::events::events;
use crate::exposition::Expositions;
use crate::metrics::Handler;
use crate::query::{DeviceQuery, Parameters};
use crate::secure::Secure;
use crate::view::{Source, Span};
use crate::{WebMetrics, WebSettings, page, respond};

/// The longest body of a request. None has one that is read.
const LONGEST_BODY: usize = 64 << 10;

/// Pages and lists that are put together at one time. Others wait, so that they never take all processors.
const VIEWS: usize = 1;

/// Streams of events at one time.
const STREAMS: usize = 64;

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
    metrics: Arc<WebMetrics>,
    telemetry_path: Arc<str>,
}

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) engine: EngineHandle,
    pub(crate) settings: WebSettings,
    expositions: Expositions,
    pub(crate) source: Arc<Source>,
    views: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
}

/// Marks a response that has no end, so that no timeout ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endless;

impl App {
    pub(crate) fn new(
        engine: EngineHandle,
        settings: WebSettings,
        addresses: Vec<SocketAddr>,
        secure: Arc<Secure>,
    ) -> Self {
        let telemetry_path = settings.telemetry_path.clone();
        let has_reload = settings.reload.is_some();
        let own_metrics = settings.metrics.clone();
        let pages = Router::new()
            .route("/", get(overview))
            .route("/device/{id}", get(device))
            .route("/api/v1/status", get(api_status))
            .route("/api/v1/devices", get(api_devices))
            .route("/api/v1/devices/{id}", get(api_device))
            .layer(CompressionLayer::new());
        let pages = pages.route("/api/v1/events", get(events));
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
                source: Arc::new(Source {
                    engine: engine.clone(),
                    history: settings.history.clone(),
                    addresses,
                    watched: settings
                        .watched
                        .as_ref()
                        .map(|path| path.display().to_string()),
                    example_command: settings.example_command.clone(),
                    started: SystemTime::now(),
                }),
                engine,
                settings,
                expositions: Expositions::default(),
                views: Arc::new(Semaphore::new(VIEWS)),
                streams: Arc::new(Semaphore::new(STREAMS)),
            }));
        Self {
            router,
            requests: Arc::new(Semaphore::new(1)),
            secure,
            metrics: own_metrics,
            telemetry_path: telemetry_path.into(),
        }
    }

    /// Answers so many requests at one time, health checks apart; one, if not said.
    pub(crate) fn requests(mut self, most: usize) -> Self {
        self.requests = Arc::new(Semaphore::new(most));
        self
    }

    /// Answers a request of the connection at `place`.
    pub(crate) async fn answer(
        self,
        place: Arc<Place>,
        request: Request<Incoming>,
    ) -> Response<Guarded> {
        let start = Instant::now();
        let responding = place.request(start);
        let handler = Handler::of(request.uri().path(), &self.telemetry_path);
        // Health has places of its own, and needs no password: what asks is a supervisor.
        let is_health = matches!(request.uri().path(), HEALTHY | READY);
        let permit = match is_health {
            true => None,
            false => self.requests.clone().try_acquire_owned().ok(),
        };
        let secure = self.secure.current();
        let has_body = has_body(request.headers());
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
        self.metrics
            .answered(handler, response.status(), start.elapsed());
        let headers = response.headers_mut();
        for (name, value) in secure.headers() {
            headers.insert(name, value.clone());
        }
        for (name, value) in HEADERS {
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        if has_body {
            // Where it ends, a proxy in front may see otherwise: what follows is no request of ours.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
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

/// Whether a request says that a body follows (RFC 9112, section 6.3).
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    headers.contains_key(TRANSFER_ENCODING) || !matches!(length, None | Some(b"0"))
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

/// How a page is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PageParameters {
    span: String,
    scale: String,
    refresh: String,
}

impl PageParameters {
    /// Seconds between two loads without scripts.
    fn refresh(&self) -> Option<u32> {
        let seconds: Option<u32> = self.refresh.parse().ok();
        seconds.map(|seconds| seconds.clamp(5, 3600))
    }
}

impl Shared {
    /// Puts something together in the blocking pool, since it takes time that grows with the devices.
    async fn view<T: Send + 'static>(
        &self,
        make: impl FnOnce(&Source) -> T + Send + 'static,
    ) -> Option<T> {
        let _turn = self.views.acquire().await.ok()?;
        let source = self.source.clone();
        tokio::task::spawn_blocking(move || make(&source))
            .await
            .ok()
    }
}

fn html(page: Option<String>) -> Response<Body> {
    let Some(page) = page else {
        return failed();
    };
    let mut response = respond::with_type(StatusCode::OK, "text/html; charset=utf-8", page);
    if let Ok(policy) = HeaderValue::from_str(&page::POLICY) {
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn json<T: Serialize>(view: Option<T>) -> Response<Body> {
    match view.map(|view| serde_json::to_vec(&view)) {
        Some(Ok(text)) => respond::with_type(StatusCode::OK, "application/json", text),
        _ => failed(),
    }
}

fn failed() -> Response<Body> {
    let words = "this could not be put together; the log says why\n";
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, words)
}

fn no_device() -> Response<Body> {
    respond::text(StatusCode::NOT_FOUND, "there is no such device\n")
}

async fn overview(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
    Query(page): Query<PageParameters>,
) -> Response<Body> {
    let query = DeviceQuery::from(parameters);
    let path = shared.settings.telemetry_path.clone();
    let made = shared.view(move |source| {
        let (status, list) = (source.status(), source.devices(&query));
        page::overview(&status, &list, &query, &path, page.refresh())
    });
    html(made.await)
}

async fn device(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(page): Query<PageParameters>,
) -> Response<Body> {
    let path = shared.settings.telemetry_path.clone();
    let made = shared.view(move |source| {
        let span = Span::parse(&page.span);
        let view = source.device(&id, span)?;
        let is_log = page.scale == "log";
        Some(page::device(
            &source.status(),
            &view,
            span,
            is_log,
            &path,
            page.refresh(),
        ))
    });
    match made.await {
        Some(None) => no_device(),
        made => html(made.flatten()),
    }
}

async fn api_status(State(shared): State<Arc<Shared>>) -> Response<Body> {
    json(shared.view(Source::status).await)
}

async fn api_devices(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
) -> Response<Body> {
    let query = DeviceQuery::from(parameters);
    json(shared.view(move |source| source.devices(&query)).await)
}

async fn api_device(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(page): Query<PageParameters>,
) -> Response<Body> {
    let made = shared.view(move |source| source.device(&id, Span::parse(&page.span)));
    match made.await {
        Some(None) => no_device(),
        made => json(made.flatten()),
    }
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
