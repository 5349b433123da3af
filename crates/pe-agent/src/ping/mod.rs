//! Pings and sweeps by hand, without a configuration.

mod output;
mod targets;
mod targets_file;

use std::io::{self, BufWriter, IsTerminal, Write, stderr, stdout};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pe_ping::{EventKind, Pinger, PingerBuilder, ProbeEvent, Stats, Sweep};
use pe_scrape::FamilyChoice;
use pe_scrape::resolve::Resolve;
use tokio::sync::mpsc;

use crate::cli::{PingArgs, Rate};
use crate::failure::Failure;
use crate::output::{printed, tell};
use targets::Target;
use targets_file::write_targets;

/// With more targets than this, single replies are not printed.
const FEW: usize = 32;

/// How long duplicates and late replies of the last probes are listened for.
const LINGER: Duration = Duration::from_millis(100);

pub(crate) async fn ping(args: PingArgs, resolver: &dyn Resolve) -> Result<(), Failure> {
    let family = match (args.v4, args.v6) {
        (true, _) => FamilyChoice::V4,
        (_, true) => FamilyChoice::V6,
        _ => FamilyChoice::Any,
    };
    let expanded = targets::expand(&args.targets, family, resolver).await?;
    for problem in &expanded.problems {
        tell(format_args!("not pinged: {problem}"));
    }
    let targets = expanded.good;
    if targets.is_empty() {
        return Err(Failure::Told);
    }
    let pinger = pinger(&args)?.build()?;
    // One target is watched, many are looked at once.
    let is_watched = args.targets.len() == 1 && targets.len() == 1;
    let count = args.count.unwrap_or(if is_watched { u32::MAX } else { 1 });
    let addresses: Arc<[IpAddr]> = targets.iter().map(|target| target.address).collect();
    let has_zones = targets.iter().any(|target| target.zone.is_some());
    let scopes = targets.iter().filter(|_| has_zones).map(Target::scope);
    let sweep = Sweep::new(addresses)
        .scopes(scopes.collect::<Arc<[u32]>>())
        .count(count)
        .probe_interval(args.interval.0)
        .timeout(args.timeout.0)
        .linger(LINGER);
    let result = if targets.len() <= FEW {
        few(&pinger, sweep, &targets, args.json).await
    } else {
        many(&pinger, sweep, &targets, args.json).await
    };
    if let (Ok(stats), Some(file)) = (&result, &args.write_targets) {
        write_targets(file, &targets, stats)?;
    }
    let up = result.map(|stats| stats.iter().filter(|stats| stats.is_up()).count());
    // A reader that has seen enough (`ping … | head`) leaves nothing to say about the targets.
    let up = printed(up.map(Some))?;
    match up {
        Some(0) => Err(Failure::Told),
        _ if !expanded.problems.is_empty() => Err(Failure::Told),
        _ => Ok(()),
    }
}

fn pinger(args: &PingArgs) -> Result<PingerBuilder, Failure> {
    let mut builder = Pinger::builder()
        .payload_size(args.size.into())
        .dont_fragment(args.dont_fragment);
    builder = match args.rate {
        Some(Rate(0.0)) => builder.unlimited_rate(),
        Some(Rate(rate)) => builder.rate(rate),
        None => builder,
    };
    if let Some(ttl) = args.ttl {
        builder = builder.ttl(ttl);
    }
    if let Some(dscp) = args.dscp {
        builder = builder.dscp(dscp);
    }
    if let Some(mark) = args.mark {
        builder = builder.mark(mark);
    }
    if let Some(from) = &args.from {
        builder = match from.parse::<IpAddr>() {
            Ok(source) => builder.source(source),
            Err(_) => builder.interface(from.clone()),
        };
    }
    Ok(builder)
}

/// Prints each reply as it comes, and a summary of each target. Returns what the probes of each add up to.
async fn few(
    pinger: &Pinger,
    sweep: Sweep,
    targets: &[Target],
    json: bool,
) -> io::Result<Vec<Stats>> {
    let (events, mut received) = mpsc::unbounded_channel::<ProbeEvent>();
    let mut stats = vec![Stats::default(); targets.len()];
    let observer = move |event| {
        // Nobody listens after an interruption.
        let _ = events.send(event);
    };
    let mut sweeping = std::pin::pin!(pinger.sweep_with(sweep, observer));
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut out = stdout().lock();
    let mut sweep_ended = false;
    loop {
        tokio::select! {
            biased;
            event = received.recv() => match event {
                Some(event) => {
                    record(&mut stats, &event);
                    if let Some(target) = targets.get(event.target as usize) {
                        output::event(&mut out, target, &event, json)?;
                        out.flush()?;
                    }
                }
                None => break,
            },
            result = &mut sweeping, if !sweep_ended => {
                result.map_err(io::Error::other)?;
                sweep_ended = true;
            }
            _ = &mut interrupt => break,
        }
    }
    if !json {
        writeln!(out)?;
    }
    for (target, stats) in targets.iter().zip(&stats) {
        output::summary(&mut out, target, stats, json)?;
    }
    Ok(stats)
}

fn record(stats: &mut [Stats], event: &ProbeEvent) {
    let Some(stats) = stats.get_mut(event.target as usize) else {
        return;
    };
    match &event.kind {
        EventKind::Reply(reply) => stats.record(&Ok(*reply)),
        EventKind::Failed(error) => stats.record(&Err(*error)),
        EventKind::Duplicate(_) => stats.record_duplicate(),
        EventKind::Late(_) => stats.record_late(),
        _ => {}
    }
}

/// Prints the targets that answer when all is done, and how many did not. Returns what the probes of each add up
/// to.
async fn many(
    pinger: &Pinger,
    sweep: Sweep,
    targets: &[Target],
    json: bool,
) -> io::Result<Vec<Stats>> {
    let started = Instant::now();
    let probes = sweep.probes();
    let ended = Arc::new(AtomicU64::new(0));
    let counter = ended.clone();
    let observer = move |event: ProbeEvent| {
        if matches!(event.kind, EventKind::Reply(_) | EventKind::Failed(_)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    let bar = progress(probes);
    let sweeping = pinger.sweep_with(sweep, observer);
    let mut sweeping = std::pin::pin!(sweeping);
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut redraw = tokio::time::interval(Duration::from_millis(100));
    let report = loop {
        tokio::select! {
            biased;
            report = &mut sweeping => break report.map_err(io::Error::other)?,
            _ = &mut interrupt => {
                bar.finish_and_clear();
                return Err(io::Error::other("interrupted before the sweep was through"));
            }
            _ = redraw.tick() => bar.set_position(ended.load(Ordering::Relaxed)),
        }
    };
    bar.finish_and_clear();
    let mut out = BufWriter::new(stdout().lock());
    for (target, stats) in targets
        .iter()
        .zip(&report.stats)
        .filter(|(_, stats)| json || stats.is_up())
    {
        output::summary(&mut out, target, stats, json)?;
    }
    let up = report.up();
    if !json {
        let (all, seconds) = (targets.len(), started.elapsed().as_secs_f64());
        writeln!(
            out,
            "\n{all} targets in {seconds:.2} s: {up} up, {} down",
            all - up
        )?;
    }
    out.flush()?;
    Ok(report.stats)
}

/// A progress bar on a terminal, nothing elsewhere.
fn progress(probes: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} probes, {eta} left");
    ProgressBar::new(probes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
