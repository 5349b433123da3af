//! nginx with basic authentication in front of another server.

use std::net::SocketAddr;

use crate::Server;
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
        let server = Server::start("nginx", "/", move |address, directory| {
            let prefix = directory.display();
            std::fs::write(directory.join("passwords"), &passwords)?;
            let config = format!(
                "daemon off;\nmaster_process off;\npid {prefix}/nginx.pid;\n\
                 error_log stderr warn;\nevents {{ worker_connections 256; }}\n\
                 http {{\n  access_log {prefix}/access.log;\n  client_max_body_size 0;\n\
                 client_body_temp_path {prefix}/body;\n  proxy_temp_path {prefix}/proxy;\n  \
                 fastcgi_temp_path {prefix}/fastcgi;\n  uwsgi_temp_path {prefix}/uwsgi;\n  \
                 scgi_temp_path {prefix}/scgi;\n  server {{\n    listen {address};\n    \
                 auth_basic \"pushers only\";\n    auth_basic_user_file {prefix}/passwords;\n    \
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
