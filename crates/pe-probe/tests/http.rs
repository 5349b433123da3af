//! The probe `http` against nginx, and against servers that misbehave.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use common::certificates::{Authority, LOCAL};
use common::{Shown, probe};
use flate2::Compression;
use flate2::write::GzEncoder;
use pe_probe::HttpFactory;
use pe_scrape::{ScraperFactory, ScraperSettings};
use pe_testkit::{free_port, require, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

/// nginx with locations of its own, on plain ports and ports with TLS; killed when dropped.
struct Web {
    child: Child,
    directory: TempDir,
    authority: Authority,
    plain: u16,
    secure: u16,
    expired: u16,
    two: u16,
}

impl Web {
    fn start() -> Self {
        let authority = Authority::new();
        let sound = authority.sound("web");
        let old = authority.signed("old", LOCAL, "20200101", "20210101");
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let [plain, secure, expired, two] = std::array::from_fn(|_| free_port().unwrap().port());
        std::fs::write(directory.path().join("passwords"), "user:{PLAIN}pass\n").unwrap();
        std::fs::create_dir(directory.path().join("pages")).unwrap();
        std::fs::write(
            directory.path().join("pages/index.html"),
            "x".repeat(10_000),
        )
        .unwrap();
        let locations = format!(
            r#"
            root {at}/pages;
            gzip on; gzip_types *; gzip_min_length 1;
            location /text {{ return 200 "all is well\n"; }}
            location /json {{ default_type application/json; return 200 '{{"state":"ok","sensors":[{{"degrees":21.5,"on":true}}]}}'; }}
            location /missing {{ return 404; }}
            location /loop {{ return 302 /loop; }}
            location /moved/there {{ return 301 ../text; }}
            location /moved {{ return 301 text; }}
            location /away {{ return 302 http://other.test/; }}
            location /echo {{ return 200 "$request_method $http_x_probe $http_host $server_protocol"; }}
            location /private {{ auth_basic x; auth_basic_user_file {at}/passwords; return 200 hidden; }}
            location /locked {{ auth_basic x; auth_basic_user_file {at}/passwords; try_files /index.html =404; }}
            location /token {{ if ($http_authorization != "Bearer t0ken") {{ return 403; }} return 200 in; }}
            "#
        );
        let tls = |port: u16, pair: &common::certificates::Pair| {
            let (certificate, key) = (pair.certificate.display(), pair.key.display());
            format!(
                "server {{ listen 127.0.0.1:{port} ssl http2; listen [::1]:{port} ssl http2; \
                 ssl_certificate {certificate}; ssl_certificate_key {key}; {locations} }}\n"
            )
        };
        let config = format!(
            "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 256; }}\nhttp {{\n access_log off;\n \
             client_body_temp_path {at}/b;\n proxy_temp_path {at}/p;\n fastcgi_temp_path {at}/f;\n \
             uwsgi_temp_path {at}/u;\n scgi_temp_path {at}/s;\n\
             server {{ listen 127.0.0.1:{plain}; listen [::1]:{plain}; {locations} }}\n\
             server {{ listen 127.0.0.1:{two} http2; {locations} }}\n{}{}}}\n",
            tls(secure, &sound),
            tls(expired, &old),
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(pe_testkit::find_program("nginx").unwrap());
        command.arg("-p").arg(directory.path()).arg("-c").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = command.args(["-e", "stderr"]).stderr(log).spawn().unwrap();
        let web = Self {
            child,
            directory,
            authority,
            plain,
            secure,
            expired,
            two,
        };
        wait::until("nginx", || TcpStream::connect(("127.0.0.1", plain)).ok());
        web
    }

    async fn get(&self, mut own: Value) -> Shown {
        own["port"] = self.plain.into();
        ask(own).await
    }

    fn tls(&self) -> Value {
        json!({"ca_file": self.authority.certificate()})
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ask(own: Value) -> Shown {
    probe(&HttpFactory::default(), "127.0.0.1", own).await
}

#[tokio::test]
async fn a_page_is_measured_in_phases_on_both_families() {
    require!(Program("nginx"), Program("openssl"));
    let web = Web::start();
    for host in ["127.0.0.1", "::1"] {
        for (port, version, tls) in [(web.plain, 1.1, false.into()), (web.secure, 2.0, web.tls())] {
            let is_https = tls != false;
            let own = json!({"port": port, "tls": tls, "compression": false});
            let shown = probe(&HttpFactory::default(), host, own).await;
            shown.succeeded();
            assert_eq!(shown.value("probe_http_status_code"), Some(200.0));
            assert_eq!(shown.value("probe_http_version"), Some(version));
            assert_eq!(shown.value("probe_http_content_length"), Some(10_000.0));
            assert_eq!(
                shown.value("probe_http_ssl"),
                Some(f64::from(u8::from(is_https)))
            );
            assert!(shown.value("probe_http_last_modified_timestamp_seconds") > Some(1.6e9));
            let phase = |phase| {
                shown
                    .of("probe_http_duration_seconds", ("phase", phase))
                    .unwrap()
            };
            let all = ["resolve", "connect", "tls", "processing", "transfer"].map(phase);
            assert!(all.iter().sum::<f64>() <= shown.value("probe_duration_seconds").unwrap());
            assert!(
                phase("connect") > 0.0 && phase("processing") > 0.0,
                "{all:?}"
            );
            assert_eq!(phase("tls") > 0.0, is_https);
            let expiry = shown.value("probe_ssl_earliest_cert_expiry");
            assert_eq!(expiry.is_some(), is_https);
        }
    }
    let own = json!({"port": web.expired, "tls": web.tls()});
    ask(own).await.failed("tls_expired");
    let own = json!({"port": web.secure, "tls": web.tls(), "version": "1.1"});
    assert_eq!(ask(own).await.value("probe_http_version"), Some(1.1));
    let own = json!({"port": web.two, "version": "2", "path": "/text", "body": "well"});
    let shown = ask(own).await;
    shown.succeeded();
    assert_eq!(shown.value("probe_http_version"), Some(2.0));
}

#[tokio::test]
async fn what_a_page_must_say_is_checked() {
    require!(Program("nginx"), Program("openssl"));
    let web = Web::start();
    let get = |own| web.get(own);
    get(json!({"path": "/missing"})).await.failed("http_status");
    get(json!({"path": "/missing", "status": [404, 410]}))
        .await
        .succeeded();
    get(json!({"path": "/text", "body": "^all is"}))
        .await
        .succeeded();
    let shown = get(json!({"path": "/text", "body": "ill"})).await;
    shown.failed("mismatch");
    assert_eq!(shown.value("probe_failed_due_to_regex"), Some(1.0));
    get(json!({"path": "/text", "not_body": "is"}))
        .await
        .failed("mismatch");
    let own = json!({"path": "/json", "json": {"/state": "^ok$", "/sensors/0/degrees": ".", "/sensors/0/on": "true"}});
    let shown = get(own).await;
    shown.succeeded();
    let value = |pointer| shown.of("probe_http_json_value", ("pointer", pointer));
    assert_eq!(value("/sensors/0/degrees"), Some(21.5));
    assert_eq!(value("/sensors/0/on"), Some(1.0));
    get(json!({"path": "/json", "json": {"/nothing": "."}}))
        .await
        .failed("mismatch");
    get(json!({"path": "/text", "json": {"/state": "."}}))
        .await
        .failed("mismatch");
    // Packed on the way, and found in all the same.
    let shown = get(json!({"path": "/", "body": "^x{100}"})).await;
    shown.succeeded();
    assert!(shown.value("probe_http_content_length") < Some(1_000.0));
    assert_eq!(
        shown.value("probe_http_uncompressed_body_length"),
        Some(10_000.0)
    );
}

#[tokio::test]
async fn requests_are_as_they_are_set() {
    require!(Program("nginx"), Program("openssl"));
    let web = Web::start();
    let own = json!({"path": "/echo", "method": "OPTIONS", "headers": {"X-Probe": "seven"}, "host": "page.test",
                     "body": "^OPTIONS seven page.test:[0-9]+ HTTP/1.1$"});
    web.get(own).await.succeeded();
    let private = |own: Value| {
        let mut own = own;
        own["path"] = "/locked".into();
        web.get(own)
    };
    private(json!({})).await.failed("http_status");
    private(json!({"username": "user", "password": "pass"}))
        .await
        .succeeded();
    let secret = web.directory.path().join("secret");
    std::fs::write(&secret, "pass\n").unwrap();
    private(json!({"username": "user", "password_file": secret}))
        .await
        .succeeded();
    std::fs::write(&secret, "t0ken\n").unwrap();
    let token = json!({"path": "/token", "bearer_token_file": secret});
    web.get(token).await.succeeded();
    // As editors of other systems write it.
    std::fs::write(&secret, "\u{feff}t0ken\r\n").unwrap();
    let token = json!({"path": "/token", "bearer_token_file": secret});
    web.get(token).await.succeeded();
    let missing = json!({"path": "/token", "bearer_token_file": "/nowhere/token"});
    let directory = json!({"path": "/token", "bearer_token_file": web.directory.path()});
    std::fs::write(&secret, "").unwrap();
    let empty = json!({"path": "/token", "bearer_token_file": secret});
    for unusable in [missing, directory, empty] {
        let shown = web.get(unusable).await;
        assert_eq!(shown.reasons(), ["secret_file"]);
        assert_eq!(shown.value("probe_success"), None);
    }
}

#[tokio::test]
async fn redirects_are_followed_on_the_device_within_their_number() {
    require!(Program("nginx"), Program("openssl"));
    let web = Web::start();
    let shown = web.get(json!({"path": "/moved", "body": "well"})).await;
    shown.succeeded();
    assert_eq!(shown.value("probe_http_redirects"), Some(1.0));
    web.get(json!({"path": "/moved", "redirects": 0}))
        .await
        .failed("http_status");
    web.get(json!({"path": "/moved", "status": 301}))
        .await
        .succeeded();
    let shown = web.get(json!({"path": "/loop"})).await;
    shown.failed("too_many_redirects");
    assert_eq!(shown.value("probe_http_redirects"), Some(5.0));
    web.get(json!({"path": "/away"}))
        .await
        .failed("redirect_elsewhere");
}

/// Listens, and answers each request with what `serve` does.
fn listen(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            // The probe may be gone.
            let _ = serve(&mut stream);
        }
    });
    port
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n";

#[tokio::test]
async fn servers_that_misbehave_have_their_reasons_within_the_deadline() {
    let asked = |port: u16, timeout: &str| ask(json!({"port": port, "timeout": timeout}));
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));

    let silent = listen(|stream| stream.read_to_end(&mut Vec::new()).map(drop));
    asked(silent, "200ms").await.failed("timeout");

    let dripping_head = listen(move |stream| {
        loop {
            stream.write_all(b"H")?;
            pause();
        }
    });
    asked(dripping_head, "200ms")
        .await
        .failed("transfer_timeout");

    let dripping_body = listen(move |stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"\r\n")?;
        loop {
            stream.write_all(b"x")?;
            pause();
        }
    });
    asked(dripping_body, "200ms")
        .await
        .failed("transfer_timeout");

    let dripping_header = listen(move |stream| {
        stream.write_all(HEAD)?;
        loop {
            stream.write_all(b"X-Y: z\r\n")?;
            pause();
        }
    });
    asked(dripping_header, "200ms")
        .await
        .failed("transfer_timeout");

    let endless_body = listen(|stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"\r\n")?;
        loop {
            stream.write_all(&[b'x'; 65_536])?;
        }
    });
    asked(endless_body, "5s").await.failed("too_large");

    let endless_header = listen(|stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"X: ")?;
        loop {
            stream.write_all(&[b'x'; 65_536])?;
        }
    });
    asked(endless_header, "5s").await.failed("too_large");

    let many_headers = listen(|stream| {
        stream.write_all(HEAD)?;
        loop {
            stream.write_all(b"X: y\r\n")?;
        }
    });
    asked(many_headers, "5s").await.failed("too_large");

    // 20 MB of zeros in some 20 KB.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..20 {
        bomb.write_all(&vec![0; 1_000_000]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 40_000);
    let bomb = listen(move |stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"Content-Encoding: gzip\r\n\r\n")?;
        stream.write_all(&bomb)
    });
    asked(bomb, "5s").await.failed("too_large");

    let cut = listen(|stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"Content-Length: 100\r\n\r\nshort")
    });
    asked(cut, "5s").await.failed("closed");

    let closing = listen(|_| Ok(()));
    asked(closing, "5s").await.failed("closed");

    let other = listen(|stream| stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n"));
    asked(other, "5s").await.failed("protocol");
}

#[tokio::test]
async fn a_proxy_is_asked_in_place_of_the_device() {
    require!(Program("nginx"), Program("openssl"));
    let web = Web::start();
    let secure = web.secure;
    // Shows the first line of the request, or leads to the page with TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let count = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let line = request.lines().next().unwrap_or_default().to_owned();
                if !request.contains("Proxy-Authorization: Basic dTpw")
                    && !request.contains("proxy-authorization: Basic dTpw")
                {
                    let _ = stream.write_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
                } else if line.starts_with("CONNECT ") {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    let mut there = TcpStream::connect(("127.0.0.1", secure)).unwrap();
                    let (mut from, mut to) =
                        (stream.try_clone().unwrap(), there.try_clone().unwrap());
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                    let _ = std::io::copy(&mut there, &mut stream);
                } else {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}",
                        line.len()
                    );
                    let _ = stream.write_all(head.as_bytes());
                }
            });
        }
    });
    let by = format!("http://u:p@{proxy}");
    let body = "^GET http://127.0.0.1:81/x HTTP/1.1";
    let own = json!({"port": 81, "path": "/x", "proxy": by, "body": body});
    ask(own).await.succeeded();
    let own =
        json!({"port": secure, "path": "/text", "tls": web.tls(), "proxy": by, "body": "well"});
    ask(own).await.succeeded();
    let own = json!({"port": secure, "tls": web.tls(), "proxy": format!("http://{proxy}")});
    let shown = ask(own).await;
    assert_eq!(shown.reasons(), ["proxy"]);
    assert_eq!(shown.value("probe_success"), None);
}

#[test]
fn settings_that_cannot_be_are_told() {
    let refused = |own: Value| {
        let settings = ScraperSettings::default().with_own(own);
        let refused = HttpFactory::default().create(&settings).map(drop);
        refused.unwrap_err().to_string()
    };
    assert!(refused(json!({"path": "x"})).contains("must start with `/`"));
    assert!(refused(json!({"body": "("})).contains("regular expression"));
    assert!(refused(json!({"method": "G T"})).contains("no method"));
    assert!(refused(json!({"password": "x"})).contains("no `username`"));
    assert!(refused(json!({"proxy": "socks5://x"})).contains("no URL"));
    let header = refused(json!({"headers": {"Authorization": "x"}}));
    assert!(header.contains("the probe's own"), "{header}");
}
