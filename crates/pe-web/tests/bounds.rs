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
    // The first were closed for the last.
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(10), held[1].read(&mut byte)).await;
    assert!(matches!(closed.unwrap(), Ok(0) | Err(_)));
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
