//! What the simulated network makes of a packet: bytes in, delayed bytes out. No I/O, no clock.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::packet::{self, EchoRequest, NoRequest, Outgoing};
use super::scenario::{
    Action, DeviceGroup, ErrorKind, ErrorMessage, Family, Forgery, Identifiers, Noise, Scenario,
    Storm,
};
use super::truth::{GroupTruth, InjectedDelay, Truth};

/// Where the routers' numbers begin: the one at hop 1 is this plus 1.
const ROUTERS: u32 = 0x00ff_0000;
/// The number of the prober's own address.
const PROBER: u32 = 0x00ff_fffd;

/// The address of a host number: `10.0.0.0` or `fd00:64::` plus it.
pub(super) fn address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        Family::V6 => Ipv6Addr::from_bits((0xfd00_0064 << 96) + u128::from(number)).into(),
    }
}

/// The prober's own address.
pub(super) fn prober(family: Family) -> IpAddr {
    address(family, PROBER)
}

/// The router so many hops away, counted from 1.
pub(super) fn router(family: Family, hop: u8) -> IpAddr {
    address(family, ROUTERS + u32::from(hop))
}

fn number_of(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(0x0a00_0000),
        IpAddr::V6(v6) => u32::try_from(v6.to_bits().checked_sub(0xfd00_0064 << 96)?).ok(),
    }
}

/// What a packet that goes out is, so that it is counted when it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one true answer.
    Reply,
    /// The same again.
    Duplicate,
    /// A reply that is not as it should be.
    Altered,
    /// A reply from before its identifier and sequence number were used again.
    Stale,
    /// An ICMP error.
    Error,
    /// Something else.
    Noise,
}

/// A packet to be sent into the prober's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Emission {
    pub(super) delay: Duration,
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Kind,
    /// The group and the request it belongs to.
    pub(super) group: usize,
    pub(super) request: usize,
}

#[derive(Clone, Debug)]
struct Device {
    random: fastrand::Rng,
    requests: u32,
    first_identifier: Option<u16>,
    kept: HashMap<(u16, u16), Outgoing>,
}

/// The state of a simulated network.
#[derive(Debug)]
pub(super) struct Network {
    groups: Vec<DeviceGroup>,
    devices: Vec<Vec<Device>>,
    /// First host number, group; ascending.
    index: Vec<(u32, usize)>,
    truth: Truth,
    storm: Option<Storm>,
    storm_random: fastrand::Rng,
    last_identifier: u16,
}

impl Network {
    /// # Panics
    /// If two groups of the scenario share a host.
    pub(super) fn new(scenario: &Scenario) -> Self {
        let groups = scenario.devices.clone();
        let mut index: Vec<_> = groups
            .iter()
            .enumerate()
            .map(|(at, group)| (group.hosts.first, at))
            .collect();
        index.sort_unstable();
        for pair in index.windows(2) {
            let (one, other) = (groups[pair[0].1].hosts, groups[pair[1].1].hosts);
            assert!(one.last < other.first, "{one:?} and {other:?} share hosts");
        }
        let device = |number: u32| Device {
            // Far apart, so that neighbours share nothing.
            random: fastrand::Rng::with_seed(
                scenario
                    .seed
                    .wrapping_add(u64::from(number))
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ),
            requests: 0,
            first_identifier: None,
            kept: HashMap::new(),
        };
        let devices = groups
            .iter()
            .map(|group| group.hosts.numbers().map(device).collect())
            .collect();
        let truth = Truth {
            groups: groups
                .iter()
                .map(|group| GroupTruth::new(group.hosts))
                .collect(),
            ..Truth::default()
        };
        Self {
            groups,
            devices,
            index,
            truth,
            storm: scenario.storm,
            storm_random: fastrand::Rng::with_seed(!scenario.seed),
            last_identifier: 0,
        }
    }

    pub(super) fn truth(&self) -> &Truth {
        &self.truth
    }

    fn group_of(&self, number: u32) -> Option<usize> {
        let after = self.index.partition_point(|(first, _)| *first <= number);
        let (_, group) = *self.index.get(after.checked_sub(1)?)?;
        (number <= self.groups[group].hosts.last).then_some(group)
    }

    /// Takes a packet from the prober; what comes back is added to `out`.
    pub(super) fn take(&mut self, packet: &[u8], out: &mut Vec<Emission>) {
        let request = match EchoRequest::parse(packet) {
            Ok(request) => request,
            Err(NoRequest::Malformed) => {
                self.truth.malformed_requests += 1;
                return;
            }
            Err(NoRequest::Other) => {
                self.truth.other_packets += 1;
                return;
            }
        };
        self.last_identifier = request.identifier;
        let number = number_of(request.destination);
        let Some((number, group)) =
            number.and_then(|number| Some((number, self.group_of(number)?)))
        else {
            self.truth.unanswered_requests += 1;
            return;
        };
        let first = self.groups[group].hosts.first;
        let device = &mut self.devices[group][(number - first) as usize];
        device.requests += 1;
        let truth = &mut self.truth.groups[group];
        let nth = truth.requests as usize;
        truth.requests += 1;
        answer(
            &self.groups[group],
            device,
            truth,
            &request,
            packet,
            |kind, delay, bytes| {
                out.push(Emission {
                    delay,
                    bytes,
                    kind,
                    group,
                    request: nth,
                });
            },
        );
    }

    /// Counts a packet of the storm that has gone into the prober's machine.
    pub(super) fn stormed(&mut self) {
        self.truth.storm += 1;
    }

    /// Counts a packet that has gone into the prober's machine, `actual` after its request had come.
    pub(super) fn gone(&mut self, emission: &Emission, actual: Duration) {
        let truth = &mut self.truth.groups[emission.group];
        match emission.kind {
            Kind::Reply => {
                truth.replies += 1;
                let (request, planned) = (emission.request, emission.delay);
                truth.delays.push(InjectedDelay {
                    request,
                    planned,
                    actual,
                });
            }
            Kind::Duplicate => truth.duplicates += 1,
            Kind::Altered => truth.altered += 1,
            Kind::Stale => truth.stale += 1,
            Kind::Error => truth.errors += 1,
            Kind::Noise => truth.noise += 1,
        }
    }

    /// Counts a packet that the prober's machine refused.
    pub(super) fn refused(&mut self) {
        self.truth.refused += 1;
    }

    /// One packet of the storm.
    pub(super) fn storm_packet(&mut self, family: Family) -> Vec<u8> {
        let random = &mut self.storm_random;
        let identifier = match self.storm.map(|storm| storm.identifiers) {
            Some(Identifiers::LastSeen) => self.last_identifier,
            _ => random.u16(..),
        };
        let mut payload = [0; 56];
        random.fill(&mut payload);
        let v6 = family == Family::V6;
        let message = packet::echo_reply(v6, identifier, random.u16(..), &payload);
        let source = address(family, random.u32(1..=0x00fe_ffff));
        Outgoing::new(source, prober(family), message).encode()
    }
}

fn answer(
    group: &DeviceGroup,
    device: &mut Device,
    truth: &mut GroupTruth,
    request: &EchoRequest<'_>,
    packet: &[u8],
    mut emit: impl FnMut(Kind, Duration, Vec<u8>),
) {
    let v6 = request.destination.is_ipv6();
    let family = if v6 { Family::V6 } else { Family::V4 };
    let mut delay = group.delay.draw(&mut device.random);
    if request.ttl <= group.hops {
        let expired = ErrorMessage {
            kind: ErrorKind::TimeExceeded,
            code: 0,
            info: 0,
            quote: None,
            forged: None,
            reply_too: false,
        };
        let error = error_packet(
            &expired,
            router(family, request.ttl.max(1)),
            request,
            packet,
        );
        emit(Kind::Error, delay, error.encode());
        return;
    }
    let mut identifier = request.identifier;
    let mut sequence = request.sequence;
    let mut payload = request.payload.to_vec();
    let mut reply = Outgoing::new(request.destination, request.source, Vec::new());
    reply.ttl = 64 - group.hops.min(63);
    let mut kind = Kind::Reply;
    let mut copies: Option<(u32, Duration)> = None;
    let mut keep = false;
    let milliseconds = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    for fault in &group.faults {
        if !fault.when.applies(device.requests, &mut device.random) {
            continue;
        }
        match &fault.r#do {
            Action::Drop => {
                truth.dropped += 1;
                return;
            }
            Action::DropFirstIdentifier => {
                if *device.first_identifier.get_or_insert(request.identifier) == request.identifier
                {
                    truth.dropped += 1;
                    return;
                }
            }
            Action::Hold(ms) => delay += milliseconds(*ms),
            Action::Duplicate {
                copies: n,
                after_ms,
            } => copies = Some((*n, milliseconds(*after_ms))),
            Action::KeepUntilReuse => keep = true,
            Action::WrongIdentifier(bits) => {
                identifier ^= bits;
                kind = Kind::Altered;
            }
            Action::WrongSequence(bits) => {
                sequence ^= bits;
                kind = Kind::Altered;
            }
            Action::WrongSource(host) => {
                reply.source = address(family, *host);
                kind = Kind::Altered;
            }
            Action::FlipPayload(at) => {
                if let Some(byte) = payload.get_mut(*at) {
                    *byte ^= 0x10;
                    kind = Kind::Altered;
                }
            }
            Action::Truncate(left) => {
                if *left < payload.len() {
                    payload.truncate(*left);
                    kind = Kind::Altered;
                }
            }
            Action::Extend(by) => {
                payload.extend(std::iter::repeat_n(0xee, *by));
                kind = Kind::Altered;
            }
            Action::BadChecksum => {
                reply.bad_checksum = true;
                kind = Kind::Altered;
            }
            Action::IpOptions => reply.ip_options = true,
            Action::Error(error) => {
                let hop = group.hops.max(1);
                let bytes = error_packet(error, router(family, hop), request, packet).encode();
                emit(Kind::Error, delay, bytes);
                if !error.reply_too {
                    return;
                }
            }
            Action::Noise(noise) => {
                emit(
                    Kind::Noise,
                    delay,
                    noise_packet(*noise, family, request, packet).encode(),
                );
            }
        }
    }
    reply.message = packet::echo_reply(v6, identifier, sequence, &payload);
    let key = (request.identifier, request.sequence);
    if let Some(kept) = device.kept.remove(&key) {
        emit(Kind::Stale, delay, kept.encode());
    }
    if keep {
        truth.kept += 1;
        device.kept.insert(key, reply);
        return;
    }
    let bytes = reply.encode();
    if let Some((n, gap)) = copies {
        emit(kind, delay, bytes.clone());
        let again = if kind == Kind::Reply {
            Kind::Duplicate
        } else {
            kind
        };
        for copy in 1..=n {
            emit(again, delay + gap * copy, bytes.clone());
        }
    } else {
        emit(kind, delay, bytes);
    }
}

fn error_packet(
    error: &ErrorMessage,
    from: IpAddr,
    request: &EchoRequest<'_>,
    packet: &[u8],
) -> Outgoing {
    let v6 = request.destination.is_ipv6();
    let (kind, code, info) = match (error.kind, v6) {
        (ErrorKind::Unreachable, false) => (3, error.code, 0),
        (ErrorKind::TooBig, false) => (3, 4, error.info & 0xffff),
        (ErrorKind::TimeExceeded, false) => (11, error.code, 0),
        (ErrorKind::ParameterProblem, false) => (12, error.code, error.info << 24),
        (ErrorKind::Unreachable, true) => (1, error.code, 0),
        (ErrorKind::TooBig, true) => (2, 0, error.info),
        (ErrorKind::TimeExceeded, true) => (3, error.code, 0),
        (ErrorKind::ParameterProblem, true) => (4, error.code, error.info),
    };
    let quote = quote_of(error.forged, error.quote, request, packet);
    Outgoing::new(
        from,
        request.source,
        packet::error(kind, code, info, &quote),
    )
}

/// The beginning of `packet`, as a router quotes it: at most `length` bytes of the ICMP message, and no
/// more than makes an error of 576 (RFC 1812) or 1,280 bytes (RFC 4443).
fn quote_of(
    forged: Option<Forgery>,
    length: Option<usize>,
    request: &EchoRequest<'_>,
    packet: &[u8],
) -> Vec<u8> {
    let v6 = request.destination.is_ipv6();
    let at = request.message_at;
    let mut quote = packet.to_vec();
    match forged {
        Some(Forgery::Checksum) => quote[at + 2] ^= 0x55,
        Some(Forgery::Identifier) => quote[at + 4] ^= 0x55,
        Some(Forgery::Sequence) => quote[at + 6] ^= 0x55,
        Some(Forgery::Destination) => quote[at - 1] ^= 0x55,
        Some(Forgery::Payload) => {
            if let Some(byte) = quote.get_mut(at + 8) {
                *byte ^= 0x55;
            }
        }
        Some(Forgery::Reply) => quote[at] = if v6 { 129 } else { 0 },
        None => {}
    }
    let most = if v6 { 1280 - 48 } else { 576 - 28 };
    quote.truncate(length.map_or(most, |length| at + length).min(most));
    quote
}

fn noise_packet(
    noise: Noise,
    family: Family,
    request: &EchoRequest<'_>,
    packet: &[u8],
) -> Outgoing {
    let v6 = family == Family::V6;
    let (source, prober) = (request.destination, request.source);
    let whole = quote_of(None, None, request, packet);
    let router = router(family, 1);
    match noise {
        Noise::EchoRequest => {
            let kind = if v6 { 128 } else { 8 };
            let message = packet::echo(kind, request.identifier, request.sequence, request.payload);
            Outgoing::new(source, prober, message)
        }
        Noise::Redirect => {
            let kind = if v6 { 137 } else { 5 };
            Outgoing::new(router, prober, packet::error(kind, 1, 0, &whole))
        }
        Noise::UnknownType => {
            let kind = if v6 { 110 } else { 77 };
            Outgoing::new(source, prober, packet::error(kind, 0, 0, &whole))
        }
        Noise::ShortReply => {
            let mut message =
                packet::echo_reply(v6, request.identifier, request.sequence, request.payload);
            message.truncate(6);
            Outgoing::new(source, prober, message)
        }
        Noise::ShortQuote => {
            let kind = if v6 { 1 } else { 3 };
            let cut = &whole[..request.message_at + 5];
            Outgoing::new(router, prober, packet::error(kind, 1, 0, cut))
        }
        Noise::Empty => Outgoing::new(source, prober, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(devices: &str) -> Network {
        let text = format!("{{ \"about\": \"test\", \"devices\": {devices} }}");
        Network::new(&serde_json::from_str(&text).unwrap())
    }

    fn request(family: Family, host: u32, sequence: u16, ttl: u8) -> Vec<u8> {
        let kind = if family == Family::V6 { 128 } else { 8 };
        let message = packet::echo(kind, 0x1111, sequence, b"sixteen bytes of");
        let mut outgoing = Outgoing::new(prober(family), address(family, host), message);
        outgoing.ttl = ttl;
        outgoing.encode()
    }

    /// Sends requests 1 to `n` to host 1 and gives what comes back: milliseconds, kind, bytes.
    fn run(devices: &str, family: Family, n: u16) -> (Vec<(f64, Kind, Vec<u8>)>, Network) {
        let mut network = network(devices);
        let mut out = Vec::new();
        for sequence in 1..=n {
            network.take(&request(family, 1, sequence, 64), &mut out);
        }
        for emission in &out {
            network.gone(emission, emission.delay);
        }
        let out = out
            .into_iter()
            .map(|e| (e.delay.as_secs_f64() * 1e3, e.kind, e.bytes));
        (out.collect(), network)
    }

    /// Type, code and rest of the ICMP message in a packet, its checksum verified.
    fn message(bytes: &[u8]) -> (u8, u8, Vec<u8>) {
        let at = if bytes[0] >> 4 == 6 {
            40
        } else {
            usize::from(bytes[0] & 15) * 4
        };
        (bytes[at], bytes[at + 1], bytes[at + 4..].to_vec())
    }

    #[test]
    fn addresses_and_numbers_are_the_same_thing() {
        for family in [Family::V4, Family::V6] {
            for number in [1, 255, 70_000, PROBER, ROUTERS + 1] {
                assert_eq!(number_of(address(family, number)), Some(number));
            }
        }
        assert_eq!(address(Family::V4, 258).to_string(), "10.0.1.2");
        assert_eq!(address(Family::V6, 258).to_string(), "fd00:64::102");
    }

    #[test]
    fn a_device_replies_to_the_prober_with_what_it_was_sent() {
        for family in [Family::V4, Family::V6] {
            let (out, network) = run(r#"[{ "hosts": 1, "delay": 5 }]"#, family, 1);
            let [(delay, Kind::Reply, bytes)] = &out[..] else {
                panic!("{out:?}")
            };
            assert_eq!(*delay, 5.0);
            let (kind, code, rest) = message(bytes);
            assert_eq!(
                (kind, code),
                (if family == Family::V6 { 129 } else { 0 }, 0)
            );
            assert_eq!(
                rest,
                [&[0x11, 0x11, 0, 1][..], b"sixteen bytes of"].concat()
            );
            let truth = &network.truth().groups[0];
            assert_eq!((truth.requests, truth.replies), (1, 1));
        }
    }

    #[test]
    fn nobody_answers_for_an_address_that_is_nobodys() {
        let mut network = network(r#"[{ "hosts": "5-6" }, { "hosts": 2 }]"#);
        let mut out = Vec::new();
        for host in 1..=7 {
            network.take(&request(Family::V4, host, 1, 64), &mut out);
        }
        assert_eq!(out.len(), 3);
        assert_eq!(network.truth().unanswered_requests, 4);
        assert_eq!(network.truth().groups[0].requests, 2);
    }

    #[test]
    fn patterns_of_loss_and_duplicates_are_exact() {
        let devices = r#"[{ "hosts": 1, "faults": [
            { "when": { "every": 3 }, "do": "drop" },
            { "when": { "every": 4 }, "do": { "duplicate": { "copies": 2, "after_ms": 1 } } }
        ] }]"#;
        let (out, network) = run(devices, Family::V4, 12);
        let truth = &network.truth().groups[0];
        assert_eq!((truth.requests, truth.dropped, truth.replies), (12, 4, 8));
        // 4 and 8; 12 was dropped.
        assert_eq!(truth.duplicates, 4);
        let later: Vec<f64> = out
            .iter()
            .filter(|(_, kind, _)| *kind == Kind::Duplicate)
            .map(|o| o.0)
            .collect();
        assert_eq!(later, [1.0, 2.0, 1.0, 2.0]);
    }

    #[test]
    fn random_loss_is_the_same_each_time_and_near_its_ratio() {
        let devices = r#"[{ "hosts": 1, "faults": [{ "when": { "ratio": 0.3 }, "do": "drop" }] }]"#;
        let lost = || run(devices, Family::V4, 10_000).1.truth().groups[0].dropped;
        assert_eq!(lost(), lost());
        assert!((2_800..3_200).contains(&lost()), "{}", lost());
    }

    #[test]
    fn replies_can_be_wrong_in_every_part() {
        let wrong = |action: &str| {
            let devices = format!(r#"[{{ "hosts": 1, "faults": [{{ "do": {action} }}] }}]"#);
            let (out, _) = run(&devices, Family::V4, 1);
            let [(_, kind, bytes)] = &out[..] else {
                panic!("{out:?}")
            };
            (*kind, bytes.clone())
        };
        let (_, good) = wrong(r#"{ "hold": 1 }"#);
        for (action, differs) in [
            (r#"{ "wrong_identifier": 21845 }"#, 24..26),
            (r#"{ "wrong_sequence": 21845 }"#, 26..28),
            (r#"{ "wrong_source": 9 }"#, 12..16),
            (r#"{ "flip_payload": 3 }"#, 31..32),
            (r#""bad_checksum""#, 22..24),
        ] {
            let (kind, bytes) = wrong(action);
            assert_eq!(kind, Kind::Altered, "{action}");
            assert_eq!(bytes.len(), good.len(), "{action}");
            for at in (0..good.len()).filter(|at| !(10..12).contains(at) && !(22..24).contains(at))
            {
                if bytes[at] != good[at] {
                    assert!(differs.contains(&at), "{action}: byte {at}");
                }
            }
            assert_ne!(bytes[differs.clone()], good[differs], "{action}");
        }
        assert_eq!(wrong(r#"{ "truncate": 4 }"#).1.len(), good.len() - 12);
        assert_eq!(wrong(r#"{ "extend": 4 }"#).1.len(), good.len() + 4);
        assert_eq!(wrong(r#""ip_options""#).1[0], 0x46);
    }

    #[test]
    fn errors_quote_the_request() {
        for (family, action, expected, quoted) in [
            (
                Family::V4,
                r#"{ "kind": "unreachable", "code": 13 }"#,
                (3, 13),
                44,
            ),
            (
                Family::V4,
                r#"{ "kind": "too_big", "info": 1400 }"#,
                (3, 4),
                44,
            ),
            (
                Family::V4,
                r#"{ "kind": "parameter_problem", "info": 8, "quote": 8 }"#,
                (12, 0),
                28,
            ),
            (
                Family::V6,
                r#"{ "kind": "unreachable", "code": 3 }"#,
                (1, 3),
                64,
            ),
            (
                Family::V6,
                r#"{ "kind": "too_big", "info": 1400, "quote": 8 }"#,
                (2, 0),
                48,
            ),
            (
                Family::V6,
                r#"{ "kind": "time_exceeded", "code": 1 }"#,
                (3, 1),
                64,
            ),
        ] {
            let devices =
                format!(r#"[{{ "hosts": 1, "faults": [{{ "do": {{ "error": {action} }} }}] }}]"#);
            let (out, _) = run(&devices, family, 1);
            let [(_, Kind::Error, bytes)] = &out[..] else {
                panic!("{out:?}")
            };
            let (kind, code, rest) = message(bytes);
            assert_eq!((kind, code), expected, "{action}");
            assert_eq!(rest[4..], request(family, 1, 1, 64)[..quoted], "{action}");
        }
    }

    #[test]
    fn a_ttl_that_runs_out_is_reported_by_the_router_where_it_did() {
        let mut network = network(r#"[{ "hosts": 1, "hops": 3 }]"#);
        let mut out = Vec::new();
        for ttl in 1..=4 {
            network.take(&request(Family::V4, 1, 1, ttl), &mut out);
        }
        let sources: Vec<&[u8]> = out.iter().map(|emission| &emission.bytes[12..16]).collect();
        assert_eq!(
            sources,
            [
                [10, 255, 0, 1],
                [10, 255, 0, 2],
                [10, 255, 0, 3],
                [10, 0, 0, 1]
            ]
        );
        assert_eq!(out[3].kind, Kind::Reply);
        assert_eq!(out[3].bytes[8], 61);
    }

    #[test]
    fn a_kept_reply_comes_before_the_reply_to_the_next_use_of_its_sequence_number() {
        let mut network = network(
            r#"[{ "hosts": 1, "faults": [{ "when": { "first": 1 }, "do": "keep_until_reuse" }] }]"#,
        );
        let mut out = Vec::new();
        network.take(&request(Family::V4, 1, 9, 64), &mut out);
        assert!(out.is_empty());
        network.take(&request(Family::V4, 1, 10, 64), &mut out);
        network.take(&request(Family::V4, 1, 9, 64), &mut out);
        let kinds: Vec<Kind> = out.iter().map(|emission| emission.kind).collect();
        assert_eq!(kinds, [Kind::Reply, Kind::Stale, Kind::Reply]);
        assert_eq!(network.truth().groups[0].kept, 1);
    }

    #[test]
    fn noise_comes_beside_the_reply() {
        for noise in [
            "echo_request",
            "redirect",
            "unknown_type",
            "short_reply",
            "short_quote",
            "empty",
        ] {
            for family in [Family::V4, Family::V6] {
                let devices = format!(
                    r#"[{{ "hosts": 1, "faults": [{{ "do": {{ "noise": "{noise}" }} }}] }}]"#
                );
                let (out, _) = run(&devices, family, 1);
                let kinds: Vec<Kind> = out.iter().map(|(_, kind, _)| *kind).collect();
                assert_eq!(kinds, [Kind::Noise, Kind::Reply], "{noise}");
            }
        }
    }
}
