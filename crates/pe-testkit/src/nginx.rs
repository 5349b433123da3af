//! nginx with basic authentication in front of another server.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::Server;
use crate::certificates::Pair;
use crate::spawn::command;

/// A real nginx that asks for a user and a password and passes what is authorised on to an upstream;
/// killed when dropped.
///
/// It runs from a directory of its own and reads nothing of the system's configuration. Needs
/// `Program("nginx")`.
#[derive(Debug)]
pub struct Nginx(Server);

impl Nginx {
    /// Starts one in front of `upstream` (its own path is kept) for one user.
    ///
    /// # Panics
    /// If it cannot be started, or if `user` holds a colon.
    pub fn with_basic_auth(upstream: SocketAddr, user: &str, password: &str) -> Self {
        assert!(
            !user.contains(':'),
            "a user name of basic authentication has no colon"
        );
        let passwords = format!("{user}:{{PLAIN}}{password}\n");
        Self::start(upstream, "", move |directory| {
            let file = directory.join("passwords");
            std::fs::write(&file, &passwords)?;
            let file = file.display();
            Ok(format!(
                "auth_basic \"pushers only\"; auth_basic_user_file {file};"
            ))
        })
    }

    /// Starts one that speaks TLS in front of `upstream`, with the certificate [`certificate`](Self::certificate) for
    /// `localhost` and 127.0.0.1. Needs `Program("openssl")` too.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn with_tls(upstream: SocketAddr) -> Self {
        Self::start(upstream, " ssl", |directory| {
            make_certificate(directory)?;
            let directory = directory.display();
            Ok(format!(
                "ssl_certificate {directory}/{CERTIFICATE}; ssl_certificate_key {directory}/key.pem;"
            ))
        })
    }

    /// The same with a certificate of the test's own, and further directives in its `server` block.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn with_certificate(upstream: SocketAddr, pair: &Pair, directives: &str) -> Self {
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        let lines =
            format!("ssl_certificate {certificate}; ssl_certificate_key {key};\n{directives}");
        Self::start(upstream, " ssl", move |_| Ok(lines.clone()))
    }

    /// Starts one in front of `upstream` with further directives in its `server` block, such as other locations.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn with_directives(upstream: SocketAddr, directives: &str) -> Self {
        let directives = directives.to_owned();
        Self::start(upstream, "", move |_| Ok(directives.clone()))
    }

    /// The PEM file of the certificate of [`with_tls`](Self::with_tls), which is its own authority.
    pub fn certificate(&self) -> PathBuf {
        self.0.directory().join(CERTIFICATE)
    }

    fn start(
        upstream: SocketAddr,
        listen: &'static str,
        prepare: impl Fn(&Path) -> io::Result<String> + Send + Sync + 'static,
    ) -> Self {
        let server = Server::start("nginx", "/", move |address, directory| {
            let lines = prepare(directory)?;
            let prefix = directory.display();
            let config = format!(
                "daemon off;\nmaster_process off;\npid {prefix}/nginx.pid;\n\
                 error_log stderr warn;\nevents {{ worker_connections 256; }}\n\
                 http {{\n  access_log {prefix}/access.log;\n  client_max_body_size 0;\n\
                 client_body_temp_path {prefix}/body;\n  proxy_temp_path {prefix}/proxy;\n  \
                 fastcgi_temp_path {prefix}/fastcgi;\n  uwsgi_temp_path {prefix}/uwsgi;\n  \
                 scgi_temp_path {prefix}/scgi;\n  server {{\n    listen {address}{listen};\n    \
                 {lines}\n    \
                 location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; }}\n  }}\n}}\n"
            );
            let file = directory.join("nginx.conf");
            std::fs::write(&file, config)?;
            let mut command = command("nginx");
            command
                .arg("-p")
                .arg(directory)
                .arg("-c")
                .arg(file)
                .arg("-e")
                .arg("stderr");
            Ok(command)
        });
        Self(server.unwrap_or_else(|error| panic!("no nginx: {error}")))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its base URL, without user or password and without a slash at the end.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The access log so far: one line a request, with its status.
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(self.0.directory().join("access.log")).unwrap_or_default()
    }

    /// The server, for requests of one's own.
    pub fn server(&mut self) -> &mut Server {
        &mut self.0
    }
}

const CERTIFICATE: &str = "certificate.pem";

/// Writes a key and a certificate that is no authority for others.
fn make_certificate(directory: &Path) -> io::Result<()> {
    let config = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                  [name]\nCN = localhost\n\
                  [extensions]\nbasicConstraints = critical, CA:FALSE\n\
                  subjectAltName = DNS:localhost, IP:127.0.0.1\n";
    std::fs::write(directory.join("openssl.cnf"), config)?;
    let output = command("openssl")
        .current_dir(directory)
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-config",
            "openssl.cnf",
            "-newkey",
            "ec",
        ])
        .args([
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-keyout",
            "key.pem",
            "-out",
            CERTIFICATE,
        ])
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).into_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gateway, http};

    #[test]
    fn only_the_right_password_reaches_the_gateway() {
        crate::require!(Program("nginx"), Program("prometheus-pushgateway"));
        let gateway = Gateway::start();
        let nginx = Nginx::with_basic_auth(gateway.address(), "pusher", "pass word");
        let status = |headers: &[(&str, &str)]| {
            http::request(nginx.address(), "PUT", "/metrics/job/x", headers, b"m 1\n")
                .unwrap()
                .status
        };
        assert_eq!(status(&[]), 401);
        // pusher:wrong
        assert_eq!(status(&[("Authorization", "Basic cHVzaGVyOndyb25n")]), 401);
        assert!(gateway.groups().is_empty());
        // pusher:pass word
        assert_eq!(
            status(&[("Authorization", "Basic cHVzaGVyOnBhc3Mgd29yZA==")]),
            200
        );
        assert_eq!(gateway.groups().len(), 1);
    }
}
