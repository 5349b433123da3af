//! Reports as the engine makes them, sinks, and a gateway that can be told to hang.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use pe_push::{Grouping, PushgatewaySettings, PushgatewaySink};
use pe_scrape::{CycleReport, FrameBuilder, LabelSet, MetricDescriptor, Sink};
use pe_testkit::wait::PATIENCE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A report as the engine makes it.
pub(crate) fn report(group: &str, devices: &[(&str, &str, f64)]) -> Arc<CycleReport> {
    let mut report = CycleReport::new(group, 0, SystemTime::now());
    let mut frame =
        FrameBuilder::new(&[MetricDescriptor::gauge("dev_ping", "Ping to device (ms)")]).unwrap();
    for (device, ip, value) in devices {
        let labels = LabelSet::new([("device", *device), ("ip", *ip)]).unwrap();
        frame = frame.row(labels, &[*value]);
    }
    report.devices = vec![Arc::new(frame.build())];
    let jobs = MetricDescriptor::gauge("exporter_jobs", "Number of jobs to export");
    let jobs = FrameBuilder::new(&[jobs])
        .unwrap()
        .row(LabelSet::empty(), &[devices.len() as f64]);
    report.exporter = vec![jobs.build()];
    Arc::new(report)
}

pub(crate) fn sink(url: &str, set: impl FnOnce(&mut PushgatewaySettings)) -> PushgatewaySink {
    let mut settings = PushgatewaySettings::new(url);
    set(&mut settings);
    PushgatewaySink::new("pushgateway", &settings).unwrap()
}

pub(crate) fn sink_grouped(url: &str, grouping: Grouping) -> PushgatewaySink {
    sink(url, |settings| settings.grouping = grouping)
}

/// The value of a metric of a sink, of the row with that label.
pub(crate) fn metric(sink: &dyn Sink, name: &str, label: Option<(&str, &str)>) -> f64 {
    let frames = sink.metrics();
    let rows = frames.iter().flat_map(|frame| {
        let rows = frame.rows().iter().enumerate();
        rows.map(move |(row, labels)| (frame, row, labels))
    });
    let mut values = rows
        .filter(|(_, _, labels)| label.is_none_or(|(name, value)| labels.get(name) == Some(value)))
        .filter_map(|(frame, row, _)| frame.value(row, name));
    values.next().unwrap()
}

/// Polls `condition` until it is true, and lets other tasks run meanwhile.
///
/// # Panics
/// When that takes too long.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, poll).await;
    assert!(in_time.is_ok(), "waited {PATIENCE:?} in vain for {what}");
}

/// A gateway that reads requests, and answers them while it is told to. Those that come while it hangs are never
/// answered. It keeps nothing but the paths of what it has answered.
pub(crate) struct FakeGateway {
    pub(crate) url: String,
    answering: watch::Sender<bool>,
    unanswered: watch::Receiver<usize>,
    answered: Arc<Mutex<Vec<String>>>,
}

impl FakeGateway {
    /// One that hangs.
    pub(crate) async fn hanging() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answering, is_answering) = watch::channel(false);
        let (hung, unanswered) = watch::channel(0);
        let answered = Arc::new(Mutex::new(Vec::new()));
        let record = answered.clone();
        tokio::spawn(async move {
            let hung = Arc::new(hung);
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve(stream, is_answering.clone(), hung.clone(), record.clone());
                tokio::spawn(serve);
            }
        });
        Self {
            url,
            answering,
            unanswered,
            answered,
        }
    }

    pub(crate) fn answer(&self) {
        self.answering.send_replace(true);
    }

    pub(crate) fn hang(&self) {
        self.answering.send_replace(false);
    }

    /// Waits for so many requests that it does not answer.
    pub(crate) async fn hangs(&self, requests: usize) {
        let mut unanswered = self.unanswered.clone();
        let hangs = unanswered.wait_for(|count| *count >= requests);
        let in_time = tokio::time::timeout(PATIENCE, hangs).await;
        in_time.expect("a request").unwrap();
    }

    /// Method and path of what it has answered, sorted.
    pub(crate) fn answered(&self) -> Vec<String> {
        let mut answered = self.answered.lock().unwrap().clone();
        answered.sort();
        answered
    }
}

async fn serve(
    mut stream: TcpStream,
    answering: watch::Receiver<bool>,
    hung: Arc<watch::Sender<usize>>,
    record: Arc<Mutex<Vec<String>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some(request) = take_request(&mut bytes) else {
            match stream.read_buf(&mut bytes).await {
                Ok(read) if read > 0 => continue,
                _ => return,
            }
        };
        if !*answering.borrow() {
            hung.send_modify(|count| *count += 1);
            // Until the client goes.
            while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {}
            return;
        }
        record.lock().unwrap().push(request);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Method and path of a whole request at the start of `bytes`, which is taken out.
fn take_request(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().unwrap())
    });
    let end = end + length.unwrap_or(0);
    if bytes.len() < end {
        return None;
    }
    bytes.drain(..end);
    let (request, _) = head.split_once(" HTTP/").unwrap();
    Some(request.to_owned())
}
