//! What the address of a device may be written as: an address, a host name, a subnet, a range.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

use crate::Family;

/// What an `ip` says, without its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSpec {
    /// One address; the text as configured.
    Ip(String, IpAddr),
    /// A link-local address and its zone; the text as configured.
    Zoned(String, Ipv6Addr, Arc<str>),
    /// A host name.
    Host(String),
    /// Several addresses.
    Many(Interval),
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(text, _) | Self::Zoned(text, ..) | Self::Host(text) => f.write_str(text),
            Self::Many(interval) => interval.fmt(f),
        }
    }
}

/// Why an address must not be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Unfit {
    /// `0.0.0.0` or `::`.
    #[error("the unspecified address")]
    Unspecified,
    /// An address of many.
    #[error("a multicast address")]
    Multicast,
    /// `255.255.255.255`.
    #[error("the broadcast address")]
    Broadcast,
    /// Some of it means IPv4, some of it IPv6.
    #[error("an IPv4-mapped address beside others")]
    Mapped,
    /// The configuration leaves it out.
    #[error("left out by the configuration")]
    Excluded,
}

/// Checks an address that a probe is to be sent to, in its canonical form: what an IPv6 address maps is IPv4.
///
/// # Errors
/// [`Unfit`] when it is not the address of one device.
pub fn check_address(ip: IpAddr) -> Result<IpAddr, Unfit> {
    let ip = ip.to_canonical();
    Interval::single(ip).check().map(|()| ip)
}

/// Why a text is no target.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{message}{}", hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})")))]
#[non_exhaustive]
pub struct TargetError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

crate::debug_with_causes!(TargetError);

impl TargetError {
    fn new(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Bytes of an interface's name (`IFNAMSIZ`, less the zero byte).
const MAX_ZONE: usize = 15;

/// The IPv6 addresses that mean IPv4 ones (RFC 4291, section 2.5.5.2).
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// Addresses from `first` to `last`, both of one family and both included. Where all of them are IPv4-mapped, the family is
/// IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    family: Family,
    first: u128,
    last: u128,
}

impl Interval {
    /// The addresses from `first` to `last`; `None` when the families differ or `last` is below `first`.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let (canonical, end) = (first.to_canonical(), last.to_canonical());
        // An end in IPv4 and one in IPv6 are two of IPv6, if they were written so.
        let (first, last) = match Family::of(canonical) == Family::of(end) {
            true => (canonical, end),
            false => (first, last),
        };
        let interval = Self {
            family: Family::of(first),
            first: to_bits(first),
            last: to_bits(last),
        };
        (Family::of(first) == Family::of(last) && interval.first <= interval.last)
            .then_some(interval)
    }

    /// One address.
    pub fn single(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self {
            family: Family::of(ip),
            first: to_bits(ip),
            last: to_bits(ip),
        }
    }

    /// Takes in `other`, which does not start before this interval; false when the two have no address in
    /// common.
    pub(super) fn absorb(&mut self, other: &Self) -> bool {
        let overlap = self.family == other.family && other.first <= self.last;
        if overlap {
            self.last = self.last.max(other.last);
        }
        overlap
    }

    /// All addresses of a subnet, network and broadcast address included.
    pub fn subnet(net: IpNet) -> Self {
        let net = canonical(net);
        Self {
            family: Family::of(net.addr()),
            first: to_bits(net.network()),
            last: to_bits(net.broadcast()),
        }
    }

    /// The host addresses of a subnet: in IPv4, network and broadcast address are left out where the
    /// prefix is shorter than 31 (RFC 3021); in IPv6 every address is a host address.
    pub fn hosts(net: IpNet) -> Self {
        let net = canonical(net);
        let mut interval = Self::subnet(net);
        if interval.family == Family::V4 && net.prefix_len() < 31 {
            interval.first += 1;
            interval.last -= 1;
        }
        interval
    }

    /// Number of addresses less one: the number itself does not fit a `u128` for `::/0`.
    pub fn steps(&self) -> u128 {
        self.last - self.first
    }

    /// The family of the addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Whether `ip` is one of the addresses.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.family == Family::of(ip) && (self.first..=self.last).contains(&to_bits(ip))
    }

    /// The addresses, in order.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (self.first..=self.last).map(move |bits| from_bits(self.family, bits))
    }

    fn overlaps(&self, first: IpAddr, last: IpAddr) -> bool {
        self.family == Family::of(first)
            && self.first <= to_bits(last)
            && to_bits(first) <= self.last
    }

    /// Checks that all of the addresses may be measured.
    fn check(&self) -> Result<(), Unfit> {
        let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        let none = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let multicast = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
        let last = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
        let mapped = (MAPPED.0.into(), MAPPED.1.into());
        let (mapped_first, mapped_last): (Ipv6Addr, Ipv6Addr) = mapped;
        if self.overlaps(v4(0, 0, 0, 0), v4(0, 0, 0, 0)) || self.overlaps(none, none) {
            return Err(Unfit::Unspecified);
        }
        if self.overlaps(v4(224, 0, 0, 0), v4(239, 255, 255, 255))
            || self.overlaps(IpAddr::V6(multicast), last)
        {
            return Err(Unfit::Multicast);
        }
        if self.overlaps(v4(255, 255, 255, 255), v4(255, 255, 255, 255)) {
            return Err(Unfit::Broadcast);
        }
        match self.overlaps(mapped_first.into(), mapped_last.into()) {
            true => Err(Unfit::Mapped),
            false => Ok(()),
        }
    }
}

/// A subnet of IPv4-mapped addresses as one of IPv4.
fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped(),
        _ => None,
    };
    mapped
        .and_then(|address| Ipv4Net::new(address, net.prefix_len() - 96).ok())
        .map_or(net, IpNet::V4)
}

fn to_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = from_bits(self.family, self.first);
        if self.first == self.last {
            return first.fmt(f);
        }
        write!(f, "{first}-{}", from_bits(self.family, self.last))
    }
}

/// Parses the text of a device's address. A port is checked and dropped.
///
/// # Errors
/// [`TargetError`] when it is none of the forms, or holds an address that is not unicast.
pub fn parse_target(text: &str) -> Result<TargetSpec, TargetError> {
    let spec = parse_any(text.trim())?;
    let interval = match &spec {
        TargetSpec::Ip(_, ip) => Some(Interval::single(*ip)),
        TargetSpec::Zoned(_, ip, _) => Some(Interval::single(IpAddr::V6(*ip))),
        TargetSpec::Many(interval) => Some(*interval),
        TargetSpec::Host(_) => None,
    };
    if let Some(Err(unfit)) = interval.map(|interval| interval.check()) {
        let hint = "only unicast addresses can be measured";
        return Err(TargetError::new(
            format!("`{text}` includes {unfit}"),
            hint.to_owned(),
        ));
    }
    Ok(spec)
}

/// Parses an entry of `exclude`: an address, a subnet, a range or a host name.
///
/// # Errors
/// [`TargetError`] when it is none of these.
pub(crate) fn parse_exclusion(text: &str) -> Result<Exclusion, TargetError> {
    let text = text.trim();
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(Exclusion::Addresses(Interval::subnet(net)));
    }
    Ok(match parse_any(text)? {
        TargetSpec::Ip(_, ip) => Exclusion::Addresses(Interval::single(ip)),
        TargetSpec::Zoned(..) => {
            let hint = "leave out `%` and what follows: an address is left out on every link";
            return Err(TargetError::new(
                format!("`{text}` has an IPv6 zone, which `exclude` does not take"),
                hint.to_owned(),
            ));
        }
        TargetSpec::Many(interval) => Exclusion::Addresses(interval),
        TargetSpec::Host(host) => Exclusion::Host(host),
    })
}

/// What an entry of `exclude` leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exclusion {
    /// These addresses.
    Addresses(Interval),
    /// This host name.
    Host(String),
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(interval) => interval.fmt(f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

fn parse_any(text: &str) -> Result<TargetSpec, TargetError> {
    if text.contains("://") {
        let hint = "write the host alone, without scheme and path";
        return Err(TargetError::new(
            format!("`{text}` is a URL"),
            hint.to_owned(),
        ));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return parse_bracketed(text, rest);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(TargetSpec::Ip(text.to_owned(), ip.to_canonical()));
    }
    if let Some((address, zone)) = text.split_once('%')
        && let Ok(ip) = address.parse()
    {
        return parse_zone(text, ip, zone);
    }
    if text.contains('/') {
        return parse_subnet(text);
    }
    if let Some((first, last)) = text.split_once('-')
        && looks_numeric(first.trim())
    {
        return parse_range(text, first.trim(), last.trim());
    }
    match text.bytes().filter(|byte| *byte == b':').count() {
        0 => parse_host(text),
        1 => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            if host.is_empty() {
                return Err(TargetError::new(format!("`{text}` has no host"), None));
            }
            check_port(text, port)?;
            match host.parse::<IpAddr>() {
                Ok(ip) => Ok(TargetSpec::Ip(host.to_owned(), ip)),
                Err(_) => parse_host(host),
            }
        }
        _ => Err(TargetError::new(
            format!("`{text}` is not a valid IPv6 address"),
            "with a port, write `[address]:port`".to_owned(),
        )),
    }
}

fn parse_bracketed(text: &str, rest: &str) -> Result<TargetSpec, TargetError> {
    let malformed = || {
        let hint = "write `[address]` or `[address]:port`";
        TargetError::new(
            format!("`{text}` is not a valid IPv6 address"),
            hint.to_owned(),
        )
    };
    let (address, port) = rest.split_once(']').ok_or_else(malformed)?;
    if !port.is_empty() {
        check_port(text, port.strip_prefix(':').ok_or_else(malformed)?)?;
    }
    if let Some((ip, zone)) = address.split_once('%') {
        let ip = ip.parse().map_err(|_| malformed())?;
        return parse_zone(address, ip, zone);
    }
    let ip: Ipv6Addr = address.parse().map_err(|_| malformed())?;
    Ok(TargetSpec::Ip(
        address.to_owned(),
        IpAddr::V6(ip).to_canonical(),
    ))
}

/// A link-local address with the interface of its link.
fn parse_zone(text: &str, ip: Ipv6Addr, zone: &str) -> Result<TargetSpec, TargetError> {
    let problem = |message: &str, hint: &str| {
        TargetError::new(format!("`{text}` {message}"), hint.to_owned())
    };
    if !ip.is_unicast_link_local() {
        let hint = "leave out `%` and what follows; only an address of `fe80::/10` needs it";
        return Err(problem(
            "has an IPv6 zone, though it is not link-local",
            hint,
        ));
    }
    let is_name = |byte: u8| byte.is_ascii_graphic() && !b"/%[]".contains(&byte);
    if zone.is_empty() || zone.len() > MAX_ZONE || !zone.bytes().all(is_name) {
        let hint = "write the name of an interface, as in `fe80::1%eth0`";
        return Err(problem("has an IPv6 zone that is no interface", hint));
    }
    Ok(TargetSpec::Zoned(text.to_owned(), ip, zone.into()))
}

fn check_port(text: &str, port: &str) -> Result<(), TargetError> {
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(()),
        _ => {
            let hint = "a port is a number from 1 to 65535; it is dropped, so leave it out";
            Err(TargetError::new(
                format!("`{text}`: bad port `{port}`"),
                hint.to_owned(),
            ))
        }
    }
}

fn parse_subnet(text: &str) -> Result<TargetSpec, TargetError> {
    let net: IpNet = text.parse().map_err(|_| {
        let hint = "write a subnet as `10.1.0.0/22` or `2001:db8::/120`";
        TargetError::new(format!("`{text}` is not a subnet"), hint.to_owned())
    })?;
    if net.addr() != net.network() {
        return Err(TargetError::new(
            format!("`{text}` is an address within a subnet"),
            format!("write the subnet as `{}`", net.trunc()),
        ));
    }
    Ok(TargetSpec::Many(Interval::hosts(net)))
}

fn parse_range(text: &str, first: &str, last: &str) -> Result<TargetSpec, TargetError> {
    let problem = |message: &str| {
        let hint = "write a range as `10.1.0.10-10.1.0.50`";
        TargetError::new(
            format!("`{text}` is not a range: {message}"),
            hint.to_owned(),
        )
    };
    let parse = |end: &str| {
        end.parse::<IpAddr>()
            .map_err(|_| problem(&format!("`{end}` is not an address")))
    };
    let (first, last) = (parse(first)?, parse(last)?);
    if first.is_ipv4() != last.is_ipv4() {
        return Err(problem(
            "it begins in one address family and ends in the other",
        ));
    }
    Interval::new(first, last)
        .map(TargetSpec::Many)
        .ok_or_else(|| problem("its end is below its beginning"))
}

/// Whether a text can only be meant as an address.
fn looks_numeric(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (text.contains('.')
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

fn parse_host(host: &str) -> Result<TargetSpec, TargetError> {
    let problem =
        |reason: &str| TargetError::new(format!("`{host}` is not a host name: {reason}"), None);
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() {
        return Err(problem("it is empty"));
    }
    if name.len() > 253 {
        return Err(problem("it is longer than 253 characters"));
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        let hint = "an IPv4 address has four numbers from 0 to 255, without leading zeros";
        let message = format!("`{host}` is not a valid IPv4 address");
        return Err(TargetError::new(message, hint.to_owned()));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(problem("there is nothing between two dots"));
        }
        if label.len() > 63 {
            return Err(problem("a part is longer than 63 characters"));
        }
        if !label.is_ascii() {
            let hint = "write an international name in its ASCII form (`xn--…`)";
            let message = format!("`{host}` is not a host name: it is not ASCII");
            return Err(TargetError::new(message, hint.to_owned()));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if let Some(byte) = label.bytes().find(|byte| !allowed(*byte)) {
            return Err(problem(&format!("it contains {:?}", char::from(byte))));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(problem("a part begins or ends with a hyphen"));
        }
    }
    Ok(TargetSpec::Host(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> (String, IpAddr) {
        match parse_target(text) {
            Ok(TargetSpec::Ip(text, ip)) => (text, ip),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn ports_are_dropped() {
        assert_eq!(ip("192.168.1.57:8080").0, "192.168.1.57");
        assert_eq!(ip("::1").0, "::1");
        assert_eq!(ip("[2001:DB8::1]:80").0, "2001:DB8::1");
        assert_eq!(ip("[::1]").0, "::1");
        assert_eq!(
            parse_target("plc-7.example:502"),
            Ok(TargetSpec::Host("plc-7.example".to_owned()))
        );
    }

    #[test]
    fn mapped_addresses_are_measured_as_ipv4() {
        assert_eq!(ip("::ffff:127.0.0.1").1, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn mapped_ranges_and_subnets_are_those_of_ipv4() {
        for (text, same) in [
            ("::ffff:10.99.0.2-::ffff:10.99.0.3", "10.99.0.2-10.99.0.3"),
            ("::ffff:10.99.0.0/126", "10.99.0.0/30"),
            ("::ffff:a63:2-::ffff:a63:3", "10.99.0.2-10.99.0.3"),
        ] {
            assert_eq!(parse_target(text), parse_target(same), "{text}");
            assert_eq!(parse_exclusion(text), parse_exclusion(same), "{text}");
        }
        for (text, words) in [
            ("::ffff:224.0.0.1-::ffff:224.0.0.3", "multicast"),
            ("::ffff:0.0.0.0-::ffff:0.0.0.3", "unspecified"),
            ("::ffff:255.255.255.255", "broadcast"),
            ("::ffff:10.0.0.1-::1:0:0:0", "IPv4-mapped"),
            ("::fffe:ffff:ffff-::ffff:0.0.0.9", "IPv4-mapped"),
        ] {
            let error = parse_target(text).unwrap_err();
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn zones_belong_to_link_local_addresses() {
        for (text, as_configured) in [
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
            ("[fe80::1%eth0]:80", "fe80::1%eth0"),
        ] {
            let ip = "fe80::1".parse().unwrap();
            let zoned = TargetSpec::Zoned(as_configured.to_owned(), ip, "eth0".into());
            assert_eq!(parse_target(text), Ok(zoned), "{text}");
            assert!(parse_exclusion(text).is_err(), "{text}");
        }
        for bad in [
            "fd00::1%eth0",
            "fe80::1%",
            "fe80::1%sixteen_long_name",
            "fe80::1%a/b",
            "ff02::1%eth0",
            "[fe80::1%eth0",
        ] {
            assert!(parse_target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_single_device_is_refused_in_canonical_form() {
        for (text, expected) in [
            ("0.0.0.0", Err(Unfit::Unspecified)),
            ("::", Err(Unfit::Unspecified)),
            ("::ffff:0.0.0.0", Err(Unfit::Unspecified)),
            ("224.0.0.1", Err(Unfit::Multicast)),
            ("ff02::1", Err(Unfit::Multicast)),
            ("::ffff:239.1.2.3", Err(Unfit::Multicast)),
            ("255.255.255.255", Err(Unfit::Broadcast)),
            ("::ffff:127.0.0.1", Ok("127.0.0.1")),
            ("::1", Ok("::1")),
        ] {
            let expected = expected.map(|text: &str| text.parse::<IpAddr>().unwrap());
            assert_eq!(check_address(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_hyphen_alone_makes_no_range() {
        assert_eq!(
            parse_target("rack-12"),
            Ok(TargetSpec::Host("rack-12".to_owned()))
        );
        assert!(matches!(
            parse_target("10.0.0.1-10.0.0.3"),
            Ok(TargetSpec::Many(_))
        ));
        assert!(parse_target("10.0.0.1-30").is_err());
    }

    proptest! {
        #[test]
        fn subnets_expand_to_what_ipnet_calls_hosts(bits: u32, prefix in 20u8..=32) {
            // 1.0.0.0 to 223.255.255.255, where every address is unicast
            let first = 0x0100_0000 + bits % 0xdf00_0000;
            let net = Ipv4Net::new(Ipv4Addr::from_bits(first), prefix).unwrap().trunc();
            let Ok(TargetSpec::Many(interval)) = parse_target(&net.to_string()) else { panic!("{net}") };
            let hosts: Vec<IpAddr> = net.hosts().map(IpAddr::V4).collect();
            prop_assert_eq!(interval.steps() + 1, hosts.len() as u128);
            prop_assert_eq!(interval.addresses().collect::<Vec<_>>(), hosts);
        }

        #[test]
        fn ipv6_subnets_expand_to_all_their_addresses(bits: u64, prefix in 116u8..=128) {
            let first = (0x2001_0db8_u128 << 96) | u128::from(bits);
            let net = Ipv6Net::new(Ipv6Addr::from_bits(first), prefix).unwrap().trunc();
            let Ok(TargetSpec::Many(interval)) = parse_target(&net.to_string()) else { panic!("{net}") };
            let hosts: Vec<IpAddr> = net.hosts().map(IpAddr::V6).collect();
            prop_assert_eq!(interval.addresses().collect::<Vec<_>>(), hosts);
        }

        #[test]
        fn ranges_have_both_their_ends(first in 0x0100_0000u32..0xdf00_0000, more in 0u32..5000) {
            let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + more));
            let spec = parse_target(&format!("{first}-{last}"));
            let Ok(TargetSpec::Many(interval)) = spec else { panic!("{first}-{last}") };
            let all: Vec<IpAddr> = interval.addresses().collect();
            prop_assert_eq!(all.len(), more as usize + 1);
            prop_assert_eq!((all[0], all[more as usize]), (first.into(), last.into()));
        }

        #[test]
        fn a_port_makes_no_difference(v4: bool, bits: u128, port in 1u16..) {
            let text = match v4 {
                true => Ipv4Addr::from_bits((bits % 0xdf00_0000) as u32 | 0x0100_0000).to_string(),
                false => Ipv6Addr::from_bits(bits >> 3 | 1 << 124).to_string(),
            };
            let with_port = match v4 {
                true => format!("{text}:{port}"),
                false => format!("[{text}]:{port}"),
            };
            prop_assert!(matches!(parse_target(&text), Ok(TargetSpec::Ip(..))));
            prop_assert_eq!(parse_target(&with_port), parse_target(&text));
        }

        #[test]
        fn a_port_makes_no_difference_to_a_name(name in "[a-z][a-z0-9]{0,9}(\\.[a-z][a-z0-9]{0,9}){0,3}", port in 1u16..) {
            prop_assert_eq!(parse_target(&format!("{name}:{port}")), Ok(TargetSpec::Host(name)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-f:./%\\[\\]é -]{0,40}|.{0,40}") {
            let _ = (parse_target(&text), parse_exclusion(&text));
        }
    }
}
