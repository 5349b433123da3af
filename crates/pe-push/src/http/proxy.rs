//! The proxy that the environment names, as curl and Go read it: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, in upper and lower
//! case. Loopback destinations never use one, as in Go, nor does anything in a CGI program, where `HTTP_PROXY` is a header of the
//! request.

use std::io;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connector::BoxIo;
use super::url::{BaseUrl, host_of, port_of};
use crate::PushError;

/// Most bytes of a proxy's answer to CONNECT.
const MAX_ANSWER: usize = 8192;

/// A proxy to go through.
pub(super) struct Proxy {
    intercept: Intercept,
    shown: String,
}

/// Why a proxy made no tunnel.
#[derive(Debug, Error)]
pub(super) enum ProxyError {
    #[error("it broke off")]
    Broken(#[source] io::Error),
    #[error(
        "it asks for user and password (407): write them into its URL, as in http://USER:PASSWORD@HOST:PORT"
    )]
    Unauthorized,
    #[error("it makes no tunnel to {to}: {status}")]
    Refused { to: String, status: String },
    #[error("it does not answer as a proxy does")]
    NoHttp,
}

impl Proxy {
    /// The proxy for `url`, if the environment names one.
    ///
    /// # Errors
    /// What it names is not the URL of an HTTP proxy.
    pub(super) fn from_environment(url: &BaseUrl) -> Result<Option<Self>, PushError> {
        Self::from_variables(url, |name| std::env::var(name).ok())
    }

    fn from_variables(
        url: &BaseUrl,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, PushError> {
        if url.is_loopback() || variable("REQUEST_METHOD").is_some() {
            return Ok(None);
        }
        let first = |names: [&'static str; 2]| {
            let set = names.map(|name| variable(name).map(|value| (name, value)));
            let mut set = set.into_iter().flatten();
            set.find(|(_, value)| !value.trim().is_empty())
        };
        let names = match url.is_tls() {
            true => ["HTTPS_PROXY", "https_proxy"],
            false => ["HTTP_PROXY", "http_proxy"],
        };
        let Some((name, value)) = first(names) else {
            return Ok(None);
        };
        let excluded = first(["NO_PROXY", "no_proxy"]).map(|(_, value)| value);
        if excluded.as_deref().map(str::trim) == Some("*") {
            return Ok(None);
        }
        let build = |excluded: String| {
            let value = value.trim().to_owned();
            Matcher::builder().all(value).no(excluded).build()
        };
        let uri = url.join("")?;
        let refused = |reason: &str| {
            // What is before the @ may be a password.
            let shown = value.rsplit_once('@').map_or(&*value, |(_, host)| host);
            PushError::Proxy {
                variable: name,
                value: shown.to_owned(),
                reason: reason.to_owned(),
            }
        };
        let named = build(String::new()).intercept(&uri);
        let is_http = |it: &Intercept| matches!(it.uri().scheme_str(), Some("http" | "https"));
        match named {
            None => return Err(refused("it is not a URL")),
            Some(it) if !is_http(&it) => return Err(refused("only HTTP proxies can be used")),
            Some(it) if it.uri().scheme_str() == Some("https") && !cfg!(feature = "tls") => {
                return Err(refused(
                    "https needs the feature \"tls\" of the crate pe-push",
                ));
            }
            Some(_) => {}
        }
        let intercept = build(excluded.unwrap_or_default()).intercept(&uri);
        Ok(intercept.map(|intercept| Self {
            shown: intercept.uri().to_string().trim_end_matches('/').to_owned(),
            intercept,
        }))
    }

    pub(super) fn uri(&self) -> &Uri {
        self.intercept.uri()
    }

    /// Its URL without credentials.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn is_tls(&self) -> bool {
        self.uri().scheme_str() == Some("https")
    }

    /// What it wants as `Proxy-Authorization`.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.intercept.basic_auth()
    }

    /// Asks for a connection to the host of `uri` (RFC 9110, section 9.3.6).
    pub(super) async fn tunnel(&self, mut stream: BoxIo, uri: &Uri) -> Result<BoxIo, ProxyError> {
        let host = match uri.host() {
            Some(host) if host.starts_with('[') => host.to_owned(),
            _ => host_of(uri).to_owned(),
        };
        let to = format!("{host}:{}", port_of(uri));
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        if let Some(authorization) = self.authorization() {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream
            .write_all(&request)
            .await
            .map_err(ProxyError::Broken)?;
        stream.flush().await.map_err(ProxyError::Broken)?;
        let answer = read_head(&mut stream).await?;
        let status = answer.lines().next().and_then(|line| {
            let (version, status) = line.split_once(' ')?;
            version.starts_with("HTTP/1.").then_some(status.trim())
        });
        match status {
            None => Err(ProxyError::NoHttp),
            Some(status) if status.starts_with('2') => Ok(stream),
            Some(status) if status.starts_with("407") => Err(ProxyError::Unauthorized),
            Some(status) => Err(ProxyError::Refused {
                to,
                status: status
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(100)
                    .collect(),
            }),
        }
    }
}

/// Reads to the empty line, byte by byte, since what follows belongs to the server behind.
async fn read_head(stream: &mut BoxIo) -> Result<String, ProxyError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_ANSWER {
            return Err(ProxyError::NoHttp);
        }
        head.push(stream.read_u8().await.map_err(ProxyError::Broken)?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, PushError> {
        let url = BaseUrl::parse(url).unwrap();
        let found = Proxy::from_variables(&url, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })?;
        Ok(found.map(|proxy| {
            let authorization = proxy
                .authorization()
                .map(|it| it.to_str().unwrap().to_owned());
            format!("{} {}", proxy.shown(), authorization.unwrap_or_default())
        }))
    }

    #[test]
    fn proxies_are_found_as_curl_and_go_find_them() {
        let all = [
            ("HTTP_PROXY", "http://u:p%40@proxy.example:3128"),
            ("https_proxy", "proxy.example:3129"),
            ("NO_PROXY", "inside.example, 192.0.2.0/24"),
        ];
        let found = |url: &str| proxy(url, &all).unwrap();
        let plain = Some("http://proxy.example:3128 Basic dTpwQA==".to_owned());
        assert_eq!(found("http://gateway.example:9091"), plain);
        for direct in [
            "http://inside.example",
            "http://gateway.inside.example",
            "http://192.0.2.7:9091",
            "http://127.0.0.1:9091",
            "http://[::1]:9091",
            "http://localhost:9091",
        ] {
            assert_eq!(found(direct), None, "{direct}");
        }
        assert!(found("http://notinside.example").is_some());
        // An empty variable counts as not set, and a CGI program has none.
        let other = [("HTTP_PROXY", ""), ("http_proxy", "http://p:1")];
        let found = proxy("http://gateway.example", &other).unwrap();
        assert_eq!(found.as_deref(), Some("http://p:1 "));
        let cgi = [("HTTP_PROXY", "http://p:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(proxy("http://gateway.example", &cgi).unwrap(), None);
        let none = [("HTTP_PROXY", "http://p:1"), ("no_proxy", "*")];
        assert_eq!(proxy("http://gateway.example", &none).unwrap(), None);
    }

    #[test]
    #[cfg(feature = "tls")]
    fn https_has_a_proxy_of_its_own() {
        let all = [
            ("http_proxy", "http://p:1"),
            ("https_proxy", "p.example:3129"),
        ];
        let found = proxy("https://gateway.example", &all).unwrap();
        assert_eq!(found.as_deref(), Some("http://p.example:3129 "));
        assert_eq!(proxy("https://gateway.example", &all[..1]).unwrap(), None);
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_without_its_password() {
        for value in [
            "socks5://u:hunter2@p:1080",
            "http://u:hunter2@",
            "ftp://u:hunter2@p",
        ] {
            let error = proxy("http://gateway.example", &[("HTTP_PROXY", value)]).unwrap_err();
            let words = error.to_string();
            assert!(
                words.contains("HTTP_PROXY") && !words.contains("hunter2"),
                "{words}"
            );
        }
    }
}
