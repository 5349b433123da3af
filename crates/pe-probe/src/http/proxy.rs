//! Requests by way of a proxy.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use pe_scrape::{Secret, SettingsError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::place::Place;
use crate::{Asked, Failure, Phase, Reason, socket_failure};

/// Bytes of an answer to `CONNECT`.
const MOST: usize = 16_384;

/// A proxy that speaks HTTP.
#[derive(Debug)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<Secret>,
}

impl Proxy {
    pub(crate) fn new(url: &str) -> Result<Self, SettingsError> {
        let refused = || SettingsError::at("proxy", "is no URL such as http://proxy.test:3128");
        let uri: Uri = url.parse().map_err(|_| refused())?;
        if uri.scheme_str() != Some("http") {
            return Err(refused());
        }
        let authority = uri.authority().ok_or_else(refused)?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(3128),
            authorization: user
                .map(|user| Secret::new(format!("Basic {}", BASE64_STANDARD.encode(user)))),
        })
    }

    pub(crate) async fn address(&self, asked: &Asked<'_>) -> Result<SocketAddr, Failure> {
        asked.enter(Phase::Resolve);
        let ip = match self.host.parse() {
            Ok(ip) => ip,
            Err(_) => {
                let resolved = asked.resolver().resolve(&self.host, None).await;
                resolved.map_err(|error| Failure::new(Reason::Proxy, error.to_string()))?
            }
        };
        asked.enter(Phase::Connect);
        Ok(SocketAddr::new(ip, self.port))
    }

    /// Asks the proxy for a way to `place`.
    pub(crate) async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        place: &Place,
    ) -> Result<(), Failure> {
        let to = place.with_port();
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization.expose());
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let failed = |error: std::io::Error| socket_failure(&error, false);
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if answer.len() >= MOST || stream.read(&mut byte).await.map_err(failed)? == 0 {
                return Err(Failure::new(
                    Reason::Proxy,
                    "the proxy gave no whole answer",
                ));
            }
            answer.push(byte[0]);
        }
        let line = answer
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        match line.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(()),
            _ => Err(Failure::new(
                Reason::Proxy,
                format!("the proxy refuses: {line}"),
            )),
        }
    }
}
