//! Which request gets which answer.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use pe_engine::EngineHandle;
use pe_scrape::exposition::negotiate;

use crate::page;

const PLAIN: &str = "text/plain; charset=utf-8";

pub(crate) async fn answer(
    request: Request<Incoming>,
    engine: EngineHandle,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let known = matches!(path, "/" | "/metrics" | "/-/healthy" | "/-/ready");
    if !known {
        return Ok(text(
            StatusCode::NOT_FOUND,
            "not found; see / for what there is\n",
        ));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is answered here\n",
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match path {
        "/metrics" => metrics(&request, engine).await,
        "/-/healthy" => text(StatusCode::OK, "healthy\n"),
        "/-/ready" if engine.is_ready() => text(StatusCode::OK, "ready\n"),
        "/-/ready" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: not every group has finished its first cycle\n",
        ),
        _ => reply(
            StatusCode::OK,
            "text/html; charset=utf-8",
            page::status(&engine).into(),
        ),
    })
}

async fn metrics(request: &Request<Incoming>, engine: EngineHandle) -> Response<Full<Bytes>> {
    let accept: Vec<&str> = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let format = negotiate(&accept.join(","));
    // A hundred thousand devices take a while to write; other requests and cycles go on meanwhile.
    match tokio::task::spawn_blocking(move || engine.exposition(format)).await {
        Ok(body) => reply(StatusCode::OK, format.content_type(), body.into()),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot write the metrics: {error}\n"),
        ),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    reply(status, PLAIN, Bytes::copy_from_slice(body.as_bytes()))
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
