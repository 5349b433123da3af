//! Clients: polite ones, one that opens connections and says little, and one that reads slowly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies of which more than this is of interest to nobody are counted and dropped.
const KEPT: usize = 1 << 20;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) bytes: usize,
    /// Its first bytes.
    pub(crate) body: Vec<u8>,
    /// From before the connection was opened to the last byte.
    pub(crate) took: Duration,
}

/// Gets a path over a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Answer, String> {
    let mut connection = Connection::new(address);
    connection
        .get(path)
        .map_err(|error| format!("{path}: {error}"))
}

/// A connection that is used again, and opened again where the server has closed it.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<Answer> {
        let start = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        // In one piece: parts of a request would wait for acknowledgements.
        let request = format!("GET {path} HTTP/1.1\r\nHost: load\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
        let (mut length, mut is_chunked) = (0, false);
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            is_chunked |= lower.starts_with("transfer-encoding:");
        }
        let mut answer = Answer {
            status,
            bytes: 0,
            body: Vec::new(),
            took: Duration::ZERO,
        };
        if is_chunked {
            loop {
                line.clear();
                stream.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
                answer.take(&mut stream, size)?;
                line.clear();
                stream.read_line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            answer.take(&mut stream, length)?;
        }
        answer.took = start.elapsed();
        self.stream = Some(stream);
        Ok(answer)
    }
}

impl Answer {
    fn take(&mut self, stream: &mut impl Read, size: usize) -> std::io::Result<()> {
        let mut buffer = vec![0; size.min(KEPT)];
        let mut left = size;
        while left > 0 {
            let part = left.min(buffer.len());
            stream.read_exact(&mut buffer[..part])?;
            if self.body.len() < KEPT {
                self.body.extend_from_slice(&buffer[..part]);
            }
            left -= part;
        }
        self.bytes += size;
        Ok(())
    }
}

/// Open connections: one of two says nothing, the others begin a request.
pub(crate) struct Flood(Vec<TcpStream>);

impl Flood {
    /// Opens so many, or as many as there are descriptors for.
    pub(crate) fn open(address: SocketAddr, count: usize) -> Self {
        let mut open = Vec::new();
        for number in 0..count {
            let Ok(mut stream) = TcpStream::connect(address) else {
                break;
            };
            if number % 2 == 0 {
                // The server may have closed it already.
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHo");
            }
            open.push(stream);
        }
        Self(open)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Asks for a path, reads a little of the answer each second, and asks again when it is refused. Ends with the value.
pub(crate) struct SlowReader {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SlowReader {
    pub(crate) fn start(address: SocketAddr, path: &'static str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        let thread = thread::spawn(move || {
            let mut stream: Option<TcpStream> = None;
            while !told.load(Ordering::Relaxed) {
                let mut buffer = [0; 4096];
                let read = match &mut stream {
                    Some(stream) => stream.read(&mut buffer),
                    None => Ok(0),
                };
                if !read.is_ok_and(|read| read > 0) {
                    stream = TcpStream::connect(address).ok();
                    if let Some(stream) = &mut stream {
                        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
                        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: load\r\n\r\n");
                    }
                }
                thread::sleep(Duration::from_millis(500));
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for SlowReader {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
