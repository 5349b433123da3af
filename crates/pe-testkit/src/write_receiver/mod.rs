//! A receiver of remote write, 1.0 and 2.0, written from the specifications: for what no packaged server speaks or does.
//!
//! It keeps what it got, says what the specification finds wrong with it, and answers as the test wants: well, with an error, too
//! late, or not at all.
//!
//! Sources: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>.

mod messages;
mod request;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::request::{ReceivedWrite, WrittenMetadata, WrittenSample, WrittenSeries};

/// Longest that a connection of a test is quiet.
const QUIET: Duration = Duration::from_secs(60);

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum WriteAnswer {
    /// It is taken, as the version of the request wants it to be said.
    Taken,
    /// Any answer.
    Status {
        /// The status.
        status: u16,
        /// Header lines, such as `Retry-After: 1`.
        headers: Vec<String>,
        /// The body.
        body: String,
    },
    /// No answer, until the peer closes the connection.
    Hang,
}

impl WriteAnswer {
    /// An answer of this status, without further headers.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Status {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }

    /// The same with a header line.
    #[must_use]
    pub fn with_header(mut self, line: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.push(line.to_owned());
        }
        self
    }
}

type Script = Box<dyn FnMut(&ReceivedWrite) -> WriteAnswer + Send>;

/// A running receiver on a free loopback port; it ends when dropped.
pub struct WriteReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    stopped: AtomicBool,
    state: Mutex<State>,
}

struct State {
    script: Script,
    received: Vec<ReceivedWrite>,
    violations: Vec<String>,
    cuts: usize,
    connections: Vec<TcpStream>,
}

impl WriteReceiver {
    /// One that takes everything.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn start() -> Self {
        Self::answering(|_| WriteAnswer::Taken)
    }

    /// One that answers each request as `script` says.
    ///
    /// # Panics
    /// If no port can be had.
    pub fn answering(script: impl FnMut(&ReceivedWrite) -> WriteAnswer + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.unwrap_or_else(|error| panic!("no port: {error}"));
        let address = (listener.local_addr()).unwrap_or_else(|error| panic!("no port: {error}"));
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            state: Mutex::new(State {
                script: Box::new(script),
                received: Vec::new(),
                violations: Vec::new(),
                cuts: 0,
                connections: Vec::new(),
            }),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(connection) = stream.try_clone() {
                    serving.lock().connections.push(connection);
                }
                let serving = serving.clone();
                std::thread::spawn(move || {
                    // A connection that breaks is the test's own doing.
                    let _ = serve(&serving, stream);
                });
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to write to.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Answers in another way from now on.
    pub fn answer(&self, script: impl FnMut(&ReceivedWrite) -> WriteAnswer + Send + 'static) {
        self.shared.lock().script = Box::new(script);
    }

    /// Closes the connections of the next requests, as many as this, in the middle of their bodies. They do not count as
    /// received.
    pub fn cut(&self, requests: usize) {
        self.shared.lock().cuts = requests;
    }

    /// All requests so far, in the order in which they came, those included that were not taken.
    pub fn received(&self) -> Vec<ReceivedWrite> {
        self.shared.lock().received.clone()
    }

    /// All samples that were taken, in the order in which they came.
    pub fn samples(&self) -> Vec<WrittenSample> {
        let received = self.received();
        let taken = received.into_iter().filter(|it| it.status / 100 == 2);
        taken
            .flat_map(|it| it.series)
            .flat_map(|series| {
                let WrittenSeries { labels, samples } = series;
                let samples = samples.into_iter();
                samples.map(move |(time, value)| WrittenSample {
                    labels: labels.clone(),
                    time,
                    value,
                })
            })
            .collect()
    }

    /// What the specifications found wrong with the requests so far.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }
}

impl Drop for WriteReceiver {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for connection in &self.shared.lock().connections {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the listener, so that its port is free.
        let _ = TcpStream::connect(self.address);
    }
}

impl std::fmt::Debug for WriteReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteReceiver")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the present request is to be cut.
    fn take_cut(&self) -> bool {
        let mut state = self.lock();
        let is_cut = state.cuts > 0;
        state.cuts -= usize::from(is_cut);
        is_cut
    }
}

/// Answers the requests of a connection.
fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(QUIET))?;
    stream.set_write_timeout(Some(QUIET))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    while let Some(headers) = read_head(&mut reader)? {
        let header = |name: &str| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let length = header("content-length").and_then(|value| value.parse().ok());
        let length: usize = length.unwrap_or(0);
        let is_v2 = header("content-type").is_some_and(|it| it.contains("write.v2.Request"));
        let mut body = vec![0; length];
        let half = length / 2;
        reader.read_exact(&mut body[..half])?;
        if shared.take_cut() {
            return stream.shutdown(std::net::Shutdown::Both);
        }
        reader.read_exact(&mut body[half..])?;
        let answer = {
            let mut state = shared.lock();
            match ReceivedWrite::decode(&body, is_v2) {
                Ok(mut request) => {
                    request.headers = headers;
                    let violations = request.violations();
                    state.violations.extend(violations);
                    let answer = (state.script)(&request);
                    request.status = match &answer {
                        WriteAnswer::Taken => 204,
                        WriteAnswer::Status { status, .. } => *status,
                        WriteAnswer::Hang => 0,
                    };
                    let answer = complete(answer, &request);
                    state.received.push(request);
                    answer
                }
                Err(error) => {
                    state.violations.push(error.clone());
                    WriteAnswer::status(400, &error)
                }
            }
        };
        match answer {
            WriteAnswer::Status {
                status,
                headers,
                body,
            } => {
                let mut head = format!("HTTP/1.1 {status} Because\r\n");
                for line in headers {
                    head.push_str(&format!("{line}\r\n"));
                }
                if status != 204 {
                    head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                }
                stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
            }
            WriteAnswer::Hang => {
                // Ends when the peer closes the connection, or this receiver does.
                io::copy(&mut reader, &mut io::sink())?;
                return Ok(());
            }
            WriteAnswer::Taken => return Ok(()),
        }
    }
    Ok(())
}

/// What "taken" is on the wire.
fn complete(answer: WriteAnswer, request: &ReceivedWrite) -> WriteAnswer {
    if !matches!(answer, WriteAnswer::Taken) {
        return answer;
    }
    let answer = WriteAnswer::status(204, "");
    if !request.is_v2 {
        return answer;
    }
    let header = "X-Prometheus-Remote-Write";
    answer
        .with_header(&format!("{header}-Samples-Written: {}", request.samples()))
        .with_header(&format!("{header}-Histograms-Written: 0"))
        .with_header(&format!("{header}-Exemplars-Written: 0"))
}

/// The headers of the next request, names in lower case; `None` when the connection is over.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Vec<(String, String)>>> {
    let mut headers = Vec::new();
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(headers));
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}
