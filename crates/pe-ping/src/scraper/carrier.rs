//! Devices behind a link without a carrier: a cable that is out, an access point that is gone.
//!
//! The kernel drops such requests without an error, or raises one in the name of the neighbour, so that they look like
//! ones that a device left unanswered. Nothing was asked. Looked for only where something was lost.

use std::net::IpAddr;

use tracing::debug;

use crate::Stats;
use crate::proto::rtnetlink::RouteQuery;
use crate::sys::Links;

/// How requests leave, as far as it is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way<'a> {
    pub(super) source: Option<IpAddr>,
    pub(super) interface: Option<&'a str>,
    pub(super) mark: Option<u32>,
}

/// Corrects the statistics of targets that were [lost](is_lost) because the link to them has no carrier. `scopes` are those of the sweep.
pub(super) fn correct(targets: &[IpAddr], scopes: &[u32], stats: &mut [Stats], way: Way<'_>) {
    if let Err(error) = try_correct(targets, scopes, stats, way) {
        debug!(%error, "cannot ask the kernel which links have a carrier");
    }
}

/// Whether a target is down, as far as its probes tell.
pub(super) fn is_lost(stats: &Stats) -> bool {
    !stats.is_up() && !stats.is_unknown()
}

fn try_correct(
    targets: &[IpAddr],
    scopes: &[u32],
    stats: &mut [Stats],
    way: Way<'_>,
) -> std::io::Result<()> {
    let mut links = Links::open()?;
    let dead = links.without_carrier()?;
    if dead.is_empty() {
        return Ok(());
    }
    let bound = way.interface.and_then(crate::sys::interface_index);
    for (at, stats) in stats
        .iter_mut()
        .enumerate()
        .filter(|(_, stats)| is_lost(stats))
    {
        let destination = targets[at];
        let scope = scopes.get(at).copied().filter(|scope| *scope != 0);
        let link = match bound.or(scope) {
            Some(link) => Some(link),
            None => {
                let source = way
                    .source
                    .filter(|source| source.is_ipv4() == destination.is_ipv4());
                links.of_route(&RouteQuery {
                    destination,
                    source,
                    link: None,
                    mark: way.mark.unwrap_or(0),
                })?
            }
        };
        if link.is_some_and(|link| dead.contains(&link)) {
            stats.never_left();
        }
    }
    Ok(())
}
