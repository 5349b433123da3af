//! What clients can do to a server that is meant to serve others too.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use common::{request, request_bytes, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Devices whose metrics do not fit into the buffers of a connection that nobody reads.
const MANY: &str = "127.1.0.0/17";

/// A connection that asked for the metrics and takes little of the answer.
async fn slow_reader(address: SocketAddr) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    let status = String::from_utf8_lossy(&start[9..]).into_owned();
    (stream, status)
}

async fn is_healthy(address: SocketAddr) -> bool {
    let answer = request(address, "GET /-/healthy HTTP/1.1");
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
    answer.unwrap().ends_with("healthy\n")
}

#[tokio::test]
async fn a_ninth_slow_reader_is_told_to_come_again() {
    let address = serve(MANY, |_| {}).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        let (stream, status) = slow_reader(address).await;
        assert_eq!(status, "200");
        readers.push(stream);
    }
    let refused = request(address, "GET /metrics HTTP/1.1").await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 5"),
        "{refused}"
    );
    assert!(is_healthy(address).await);
    assert!(
        request(address, "GET / HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 200")
    );
    // One that leaves gives its place to another.
    readers.pop();
    let again = async {
        while !request(address, "GET /metrics HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 200")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again)
        .await
        .unwrap();
}

#[tokio::test]
async fn silent_and_half_open_connections_keep_nobody_out() {
    let address = serve("", |_| {}).await;
    let mut held = Vec::new();
    for index in 0..600 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if index % 2 == 0 {
            // The server may have given its place away already.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").await;
        }
        held.push(stream);
    }
    assert!(is_healthy(address).await);
    assert!(
        request(address, "GET /metrics HTTP/1.1")
            .await
            .contains("ping_up{")
    );
    // Of those that began a request, the first were closed for the last.
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(10), held[0].read(&mut byte)).await;
    assert!(matches!(closed.unwrap(), Ok(0) | Err(_)));
}

/// All of them wait when the server gets to accept the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_behind_a_burst_of_half_open_ones_are_all_read() {
    let address = serve("", |_| {}).await;
    // On the only thread of the runtime, so that nothing is accepted in the meantime.
    let burst = tokio::spawn(async move { burst(address) }).await.unwrap();
    let mut unread = 0;
    for mut stream in burst.into_iter().skip(400) {
        let mut start = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut start));
        let is_answered = read.await.unwrap().is_ok() && start == *b"HTTP/1.1 200";
        unread += usize::from(!is_answered);
    }
    assert_eq!(unread, 0);
}

/// 400 connections that begin a request, and 300 with a whole one.
fn burst(address: SocketAddr) -> Vec<TcpStream> {
    (0..700)
        .map(|index| {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let request = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
            let sent = if index < 400 {
                request.len() - 2
            } else {
                request.len()
            };
            std::io::Write::write_all(&mut stream, &request[..sent]).unwrap();
            stream.set_nonblocking(true).unwrap();
            TcpStream::from_std(stream).unwrap()
        })
        .collect()
}

#[tokio::test]
async fn headers_and_bodies_have_limits() {
    let address = serve("", |_| {}).await;
    let long = "x".repeat(100_000);
    for (sent, expected) in [
        (format!("GET / HTTP/1.1\r\nX-Long: {long}"), "431"),
        (format!("GET /{long} HTTP/1.1"), "414"),
        (
            "GET / HTTP/1.1\r\nContent-Length: 100000000".to_owned(),
            "413",
        ),
        (format!("GET / HTTP/1.1{}", "\r\nX: y".repeat(100)), "431"),
        ("GET / HTTP/9.9".to_owned(), "400"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream
            .write_all(format!("{sent}\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await;
        let mut start = [0; 12];
        let read = stream.read_exact(&mut start).await;
        let status = String::from_utf8_lossy(&start[9..]).into_owned();
        // A server that closes before it has read everything may reset the connection, and the answer with it.
        assert!(
            read.is_err() || status == expected || (expected == "414" && status == "431"),
            "{status} for {expected}"
        );
    }
    assert!(is_healthy(address).await);
}

#[tokio::test]
async fn what_is_streamed_and_compressed_is_the_same_text() {
    let address = serve("127.1.0.0/20", |_| {}).await;
    let plain = request_bytes(address, "GET /metrics HTTP/1.0").await;
    let gzipped = request_bytes(address, "GET /metrics HTTP/1.0\r\nAccept-Encoding: gzip").await;
    let body = |response: &[u8]| {
        let end = response
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap();
        response[end + 4..].to_vec()
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*body(&gzipped))
        .read_to_string(&mut text)
        .unwrap();
    let devices = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("ping_up{"))
            .count()
    };
    let plain = String::from_utf8(body(&plain)).unwrap();
    assert_eq!((devices(&plain), devices(&text)), (4096, 4096));
    assert!(gzipped.len() * 4 < plain.len());
}

/// All that comes back for these bytes until the server closes the connection, which it has to.
async fn exchange(address: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough may close before it has read everything.
    let _ = stream.write_all(sent).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    let _ = read.await.expect("the connection stays open for ever");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn paths_lead_nowhere_but_to_what_there_is() {
    let address = serve("", |_| {}).await;
    for path in [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/./metrics",
        "/metrics/../-/healthy",
        "/metrics/",
        "/metrics%00",
        "/METRICS",
        "/device/..%2f..%2fmetrics",
        "/device/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/api/v1/devices/../status",
        "/static/script.js",
        "/<script>alert(1)</script>",
    ] {
        let answer = exchange(
            address,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "404"].contains(&status), "{path}: {answer}");
        assert!(!answer.contains("script>"), "{path}: {answer}");
    }
    // A name of another machine, in either place, is of no interest, and never sent back.
    for request in [
        "GET http://evil.example/-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /-/healthy HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ] {
        let answer = exchange(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("evil.example"), "{answer}");
    }
    for request in [
        "POST /",
        "DELETE /metrics",
        "PUT /api/v1/status",
        "TRACE /",
        "OPTIONS *",
        "CONNECT x:80",
        "POST /-/reload",
    ] {
        let answer = exchange(
            address,
            format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["404", "405"].contains(&status), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_second_request_is_never_hidden_in_the_first() {
    let address = serve("", |_| {}).await;
    let hidden = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = hidden.len();
    for head in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n".to_owned(),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"),
        format!("Content-Length: {length}\r\n\r\n"),
        format!("Content-Length: +{length}\r\n\r\n"),
        "Content-Length : 5\r\n\r\n".to_owned(),
        "Content-Length: 99999999999999999999\r\n\r\n".to_owned(),
        "X: a\r\n b\r\n\r\n".to_owned(),
        "X: a\0b\r\n\r\n".to_owned(),
        "X\r\n\r\n".to_owned(),
    ] {
        let answer = exchange(
            address,
            format!("GET /-/healthy HTTP/1.1\r\nHost: x\r\n{head}{hidden}").as_bytes(),
        )
        .await;
        assert!(!answer.contains("ping_up"), "{head:?}: {answer}");
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{head:?}: {answer}"
        );
    }
    for nonsense in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
        "GET  / HTTP/1.1\r\n\r\n",
        "\0\0\0\0",
    ] {
        let answer = exchange(address, nonsense.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{nonsense:?}: {answer}"
        );
    }
    // One after another they are welcome.
    let first = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n";
    let both = format!("{first}\r\n{first}Connection: close\r\n\r\n");
    let answer = exchange(address, both.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert!(is_healthy(address).await);
}

#[tokio::test]
async fn a_reader_of_the_metrics_has_its_time_however_steadily_it_reads() {
    let address = serve(MANY, |_| {}).await;
    let (mut stream, status) = slow_reader(address).await;
    assert_eq!(status, "200");
    let mut part = vec![0; 64 << 10];
    for _ in 0..4 {
        stream.read_exact(&mut part).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(9)).await;
        tokio::time::resume();
    }
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    // What is cut off must not look complete.
    assert!(read.expect("the connection stays open").is_err() || !rest.ends_with(b"0\r\n\r\n"));
    assert!(rest.len() < 1 << 20, "{} bytes more", rest.len());
    assert!(is_healthy(address).await);
}
