//! Where a request goes, and where a redirect leads from there.

use std::net::IpAddr;

use hyper::Uri;

/// A host, a port there, and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) is_https: bool,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

impl Place {
    /// Host and port as a request names them.
    pub(crate) fn authority(&self) -> String {
        let host = bracketed(&self.host);
        match (self.is_https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Host and port, the port always.
    pub(crate) fn with_port(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }

    /// The whole address.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// Whether it is on the host that was asked first, which has this address.
    pub(crate) fn is_at(&self, first: &Self, address: IpAddr) -> bool {
        self.host.eq_ignore_ascii_case(&first.host) || self.host.parse() == Ok(address)
    }

    /// Where a `Location` leads (RFC 9110, section 10.2.2).
    pub(crate) fn follow(&self, location: &str) -> Option<Self> {
        let location = location.split('#').next()?;
        let scheme = if self.is_https { "https:" } else { "http:" };
        let whole = if location.starts_with("//") {
            format!("{scheme}{location}")
        } else if let Some((scheme, _)) = location.split_once("://")
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            location.to_owned()
        } else {
            let path = self.path.split('?').next().unwrap_or_default();
            let path = if location.starts_with('/') {
                location.to_owned()
            } else if location.starts_with('?') || location.is_empty() {
                format!("{path}{location}")
            } else {
                let end = path.rfind('/').map_or(0, |slash| slash + 1);
                format!("{}{location}", &path[..end])
            };
            return Some(Self {
                path,
                ..self.clone()
            });
        };
        let uri: Uri = whole.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Some(Self {
            is_https,
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            path: uri.path_and_query()?.to_string(),
        })
    }
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_the_standard_says() {
        let from = Place {
            is_https: false,
            host: "a.test".to_owned(),
            port: 8080,
            path: "/b/c?d".to_owned(),
        };
        let url = |location: &str| from.follow(location).map(|place| place.url());
        let leads = |location: &str, to: &str| assert_eq!(url(location).as_deref(), Some(to));
        leads("/x?y#z", "http://a.test:8080/x?y");
        leads("x", "http://a.test:8080/b/x");
        leads("?q", "http://a.test:8080/b/c?q");
        leads("//e.test/x", "http://e.test/x");
        leads("https://[::1]:444/x", "https://[::1]:444/x");
        leads("https://e.test", "https://e.test/");
        assert_eq!(url("ftp://e.test/"), None);
        assert_eq!(url("http://"), None);
    }
}
