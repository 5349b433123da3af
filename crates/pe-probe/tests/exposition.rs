//! The probe `exposition` against devices that misbehave. Against real ones it is tested with the program.
#![cfg(feature = "exposition")]
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use common::{Shown, probe};
use flate2::Compression;
use flate2::write::GzEncoder;
use pe_probe::ExpositionFactory;
use serde_json::{Value, json};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n";

/// Listens, and answers each request with what `serve` does.
fn listen(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            // The probe may be gone.
            let _ = serve(&mut stream);
        }
    });
    port
}

/// A device with this page.
fn page(head: &'static [u8], body: impl Into<Vec<u8>>) -> u16 {
    let body = body.into();
    listen(move |stream| {
        stream.write_all(head)?;
        stream.write_all(b"\r\n")?;
        stream.write_all(&body)
    })
}

async fn ask(port: u16, mut own: Value) -> Shown {
    own["port"] = port.into();
    probe(&ExpositionFactory::default(), "127.0.0.1", own).await
}

#[tokio::test]
async fn a_page_is_passed_on_and_told() {
    let text = "# TYPE up gauge\nup{device=\"sda\"} 1 1700000000000\nup 2\nup{__x=\"1\"} 1\nup 3\n";
    let port = page(HEAD, text);
    let shown = ask(port, json!({"identity": "instance"})).await;
    shown.succeeded();
    assert_eq!(shown.value("probe_exposition_series"), Some(2.0));
    let bytes = text.len() as f64;
    assert_eq!(shown.value("probe_exposition_page_bytes"), Some(bytes));
    assert_eq!(
        shown.value("probe_exposition_timestamped_series"),
        Some(1.0)
    );
    let dropped = |reason| shown.of("probe_exposition_dropped_series", ("reason", reason));
    assert_eq!(dropped("invalid"), Some(1.0));
    assert_eq!(dropped("duplicate"), Some(1.0));
    assert_eq!(shown.of("up", ("device", "sda")), Some(1.0));
    assert_eq!(shown.label("up", "instance"), "device");
    assert_eq!(
        shown.label("probe_exposition_series", "probe"),
        format!("exposition:{port}")
    );
}

#[tokio::test]
async fn devices_that_misbehave_have_their_reasons_within_the_deadline() {
    let none = || json!({});
    let moved = page(
        b"HTTP/1.1 302 Found\r\nLocation: /other\r\nConnection: close\r\n",
        "",
    );
    ask(moved, none()).await.failed("too_many_redirects");
    let missing = page(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n", "");
    ask(missing, none()).await.failed("http_status");
    let html = page(HEAD, "<html><body>Welcome</body></html>\n");
    ask(html, none()).await.failed("malformed");
    let not_utf8 = page(HEAD, b"up{x=\"\xff\"} 1\n".to_vec());
    ask(not_utf8, none()).await.failed("invalid_utf8");
    let many: String = (0..2000).map(|n| format!("a{{n=\"{n}\"}} 1\n")).collect();
    let many = page(HEAD, many);
    ask(many, json!({"max_series": 1000}))
        .await
        .failed("too_many_series");
    ask(many, none()).await.succeeded();

    // Ten million series, of which 16 MiB are read.
    let endless = listen(|stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"\r\n")?;
        let lines = b"node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 12345.67\n".repeat(1000);
        (0..10_000).try_for_each(|_| stream.write_all(&lines))
    });
    ask(endless, none()).await.failed("too_large");

    // 64 MiB in some 64 KB.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    (0..64).for_each(|_| bomb.write_all(&vec![b'\n'; 1 << 20]).unwrap());
    let packed = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n";
    let bomb = page(packed, bomb.finish().unwrap());
    ask(bomb, none()).await.failed("too_large");
    let cut = page(packed, &b"\x1f\x8b\x08\x00\x00"[..]);
    assert_eq!(ask(cut, none()).await.value("probe_success"), Some(0.0));

    let dripping = listen(|stream| {
        stream.write_all(HEAD)?;
        stream.write_all(b"\r\n")?;
        loop {
            stream.write_all(b"up 1\n")?;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    ask(dripping, json!({"timeout": "300ms"}))
        .await
        .failed("transfer_timeout");
    let silent = listen(|stream| stream.read_to_end(&mut Vec::new()).map(drop));
    ask(silent, json!({"timeout": "200ms"}))
        .await
        .failed("timeout");
}
