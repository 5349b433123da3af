//! What devices that attack by the size of their pages can take of this process's memory: many at once, each within its bound.
#![cfg(feature = "exposition")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use pe_probe::ExpositionFactory;
use pe_scrape::{Address, Batch, ScraperFactory, ScraperSettings, Table, Target};
use serde_json::json;

/// The memory of the process is that of all tests in it.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Devices that attack at once.
const DEVICES: usize = 50;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n";

type Attack = fn(&mut TcpStream) -> io::Result<()>;

fn endless_header(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nX-Long: ")?;
    endless(stream, &[b'x'; 4096])
}

fn endless_headers(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
    endless(stream, &b"X-Other: y\r\n".repeat(300))
}

fn endless_body(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(HEAD)?;
    endless(stream, &[b'\n'; 65_536])
}

fn endless_line(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(HEAD)?;
    endless(stream, &[b'x'; 65_536])
}

fn endless(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(bytes)?;
    }
}

/// 32 MiB in some 32 KB.
fn gzip_bomb(stream: &mut TcpStream) -> io::Result<()> {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    let bomb = BOMB.get_or_init(|| {
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        let lines = vec![b'\n'; 1 << 20];
        (0..32).for_each(|_| bomb.write_all(&lines).unwrap());
        bomb.finish().unwrap()
    });
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n")?;
    stream.write_all(bomb)
}

/// Ten million series, each another.
fn many_series(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(HEAD)?;
    let mut lines = Vec::new();
    for series in 0..10_000_000 {
        writeln!(lines, "a{{n=\"{series}\"}} 1")?;
        if lines.len() > 32_768 {
            stream.write_all(&lines)?;
            lines.clear();
        }
    }
    Ok(())
}

/// Small series, as many as the bytes hold.
fn dense_page(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(HEAD)?;
    let lines = b"a 1\n".repeat(8192);
    (0..31).try_for_each(|_| stream.write_all(&lines))
}

/// A device that answers each request so.
fn listen(attack: Attack) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                // The probe goes when it has enough.
                let _ = attack(&mut stream);
            });
        }
    });
    port
}

/// A line of `/proc/self/status` in bytes.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let found = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
    let kilobytes: u64 = found.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// Lets all devices attack at once. Returns how much the process grew at the most, and how much of it stayed.
async fn attacked(attack: Attack, max_bytes: u32) -> (u64, u64) {
    let own = json!({"port": listen(attack), "max_bytes": max_bytes, "timeout": "50s"});
    let mut settings = ScraperSettings::default().with_own(own);
    settings.interval = Duration::from_secs(100);
    let scraper = ExpositionFactory::default().create(&settings).unwrap();
    let targets: Arc<[Target]> = (0..DEVICES)
        .map(|n| {
            let address = Address::Ip([127, 0, 0, 1].into());
            Target::new(format!("d{n}"), "127.0.0.1", address, []).unwrap()
        })
        .collect();
    let before = memory("VmRSS");
    // The peak starts anew: proc(5).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    for _ in 0..2 {
        let table = Arc::new(Table::new(scraper.columns().clone(), DEVICES));
        let batch = Batch::new(
            targets.clone(),
            table,
            Instant::now() + Duration::from_secs(60),
        );
        scraper.scrape_batch(&batch).await.unwrap();
        assert_eq!(batch.unfinished().count(), 0);
    }
    let peak = memory("VmHWM").saturating_sub(before);
    (peak, memory("VmRSS").saturating_sub(before))
}

/// All attacks, with what each takes.
const ATTACKS: [(&str, Attack); 7] = [
    ("endless header", endless_header),
    ("endless headers", endless_headers),
    ("endless body", endless_body),
    ("endless line", endless_line),
    ("gzip bomb", gzip_bomb),
    ("ten million series", many_series),
    ("dense page", dense_page),
];

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_attack_take_no_more_memory_than_their_bounds() {
    let _one = ONE_AT_A_TIME.lock().await;
    const MAX_BYTES: u32 = 1 << 18;
    for (name, attack) in ATTACKS {
        let (peak, _) = attacked(attack, MAX_BYTES).await;
        // A page's bytes, twice while they move to a larger place; sockets, connections and threads beside that.
        let bound = DEVICES as u64 * (2 * u64::from(MAX_BYTES) + (1 << 19));
        assert!(peak <= bound, "{name}: {peak} bytes are more than {bound}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by whoever renews the figures of docs/performance.md"]
async fn what_attacks_take_with_the_default_bounds() {
    let _one = ONE_AT_A_TIME.lock().await;
    for (name, attack) in ATTACKS {
        let (peak, left) = attacked(attack, 16 << 20).await;
        println!("{name}: peak {} MB, left {} MB", peak >> 20, left >> 20);
    }
}
