//! The engine against the kernel's own answers on 127.0.0.0/8 and ::1.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pe_ping::{EventKind, Family, Pacer, Pinger, ProbeError, Sweep};

fn loopback(count: u32) -> Arc<[IpAddr]> {
    (0..count)
        .map(|n| IpAddr::from(Ipv4Addr::from(0x7f01_0001 + n)))
        .collect()
}

#[tokio::test]
async fn one_ping_of_each_family() {
    let pinger = Pinger::new().unwrap();
    for address in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from([127, 9, 8, 7]),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        let reply = pinger.ping(address).await.unwrap();
        assert!(
            reply.rtt > Duration::ZERO && reply.rtt < Duration::from_millis(500),
            "{reply:?}"
        );
        assert_eq!(
            (reply.ttl, reply.payload, reply.truncated),
            (Some(64), 56, false)
        );
    }
    let counters = pinger.counters();
    assert_eq!((counters.sent, counters.received), (3, 3));
}

#[tokio::test]
async fn a_hundred_pings_to_one_address_at_once() {
    let pinger = Pinger::new().unwrap();
    let pings = (0..100).map(|_| {
        let pinger = pinger.clone();
        tokio::spawn(async move { pinger.ping(Ipv4Addr::LOCALHOST).await })
    });
    for ping in pings.collect::<Vec<_>>() {
        ping.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_sweep_of_thousands() {
    let pinger = Pinger::builder().unlimited_rate().build().unwrap();
    let (send, events) = std::sync::mpsc::channel();
    let started = Instant::now();
    let sweep = Sweep::new(loopback(5_000))
        .count(2)
        .probe_interval(Duration::from_millis(1));
    let result = pinger
        .sweep_with(sweep, move |event| send.send(event).unwrap())
        .await
        .unwrap();
    assert!(result.elapsed <= started.elapsed());
    assert_eq!(result.up(), 5_000);
    assert!(result.stats.iter().all(|stats| stats.replies() == 2));
    let events: Vec<_> = events.iter().collect();
    assert_eq!(events.len(), 10_000);
    assert!(
        events
            .iter()
            .all(|event| matches!(event.kind, EventKind::Reply(_)))
    );
    assert!(
        events
            .iter()
            .all(|event| event.sent.unwrap() <= result.elapsed)
    );
}

#[tokio::test]
async fn payloads_of_all_sizes() {
    for size in [0, 1, 8, 11, 12, 13, 1_472, 9_000, 65_507] {
        let pinger = Pinger::builder().payload_size(size).build().unwrap();
        for address in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let reply = pinger.ping(address).await.unwrap();
            assert_eq!(usize::from(reply.payload), size);
        }
    }
}

#[tokio::test]
async fn a_subnet_and_whatever_can_be_iterated_over_can_be_swept() {
    let pinger = Pinger::new().unwrap();
    let sweep = Sweep::subnet("127.0.0.0/29").unwrap();
    let result = pinger.sweep(sweep).await.unwrap();
    let up: Vec<IpAddr> = result.iter().map(|(address, _)| address).collect();
    let expected: Vec<IpAddr> = (1..=6).map(|last| [127, 0, 0, last].into()).collect();
    assert_eq!((result.up(), up), (6, expected));
    let sweep: Sweep = (1..=3).map(|last| [127, 0, 0, last]).collect();
    assert_eq!(pinger.sweep(sweep).await.unwrap().up(), 3);
}

#[tokio::test]
async fn an_empty_sweep_ends() {
    let pinger = Pinger::new().unwrap();
    let result = pinger.sweep(Sweep::new(Vec::new())).await.unwrap();
    assert!(result.stats.is_empty());
    let result = pinger
        .sweep(Sweep::new(loopback(3)).count(0))
        .await
        .unwrap();
    assert_eq!(result.stats.len(), 3);
}

#[tokio::test]
async fn a_deadline_ends_what_was_not_sent() {
    let pinger = Pinger::builder().rate(10.0).burst(1).build().unwrap();
    let sweep = Sweep::new(loopback(100)).deadline(Instant::now() + Duration::from_millis(300));
    let result = pinger.sweep(sweep).await.unwrap();
    assert!(result.up() >= 1 && result.up() < 50);
    let unsent = result
        .stats
        .iter()
        .filter(|stats| stats.errors(pe_ping::Reason::NotSent) == 1)
        .count();
    assert_eq!(result.up() + unsent, 100);
}

/// The least time that so many requests take; a busy machine only makes it longer.
#[tokio::test]
async fn sweeps_of_several_pingers_keep_to_the_pacer_that_they_share() {
    let pacer = Pacer::new(5_000.0, 10);
    let pingers = [56, 100].map(|size| Pinger::builder().payload_size(size).build().unwrap());
    let started = Instant::now();
    let sweeps = [0, 1, 0, 1].map(|at: usize| {
        let sweep = Sweep::new(loopback(250)).pacer(pacer.clone());
        let pinger = pingers[at].clone();
        tokio::spawn(async move { pinger.sweep(sweep).await })
    });
    for sweep in sweeps {
        let result = sweep.await.unwrap().unwrap();
        assert_eq!(result.up(), 250);
    }
    assert!(started.elapsed() >= Duration::from_secs_f64((1_000.0 - 11.0) / 5_000.0));
}

#[tokio::test]
async fn a_sweep_keeps_to_the_slowest_of_its_pacers() {
    let pinger = Pinger::builder().unlimited_rate().build().unwrap();
    let sweep = Sweep::new(loopback(200))
        .pacer(Pacer::new(20_000.0, 64))
        .pacer(Pacer::new(1_000.0, 1));
    let result = pinger.sweep(sweep).await.unwrap();
    assert_eq!(result.up(), 200);
    assert!(result.elapsed >= Duration::from_millis(198));
}

#[tokio::test]
async fn a_panicking_observer_harms_nobody_else() {
    let pinger = Pinger::new().unwrap();
    let result = pinger
        .sweep_with(Sweep::new(loopback(3)), |_| panic!("on purpose"))
        .await;
    assert!(result.is_err());
    pinger.ping(Ipv4Addr::LOCALHOST).await.unwrap();
}

#[tokio::test]
async fn a_missing_family_is_told() {
    let pinger = Pinger::builder().ipv6(false).build().unwrap();
    let outcome = pinger.ping(Ipv6Addr::LOCALHOST).await;
    assert_eq!(outcome, Err(ProbeError::NoSocket { family: Family::V6 }));
    let source = IpAddr::from([127, 0, 0, 9]);
    let pinger = Pinger::builder().source(source).build().unwrap();
    assert_eq!(pinger.sockets().len(), 1);
    pinger.ping([127, 0, 0, 10]).await.unwrap();
}
