//! Changes of state of devices, as log lines.
//!
//! A sink like any other: which devices changed is found by [`states`], and how many lines that makes by [`pace`]. Both know
//! neither clock nor log.

mod pace;
mod states;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pe_scrape::{CycleReport, Sink, async_trait};
use tracing::info;

use pace::{Line, Pace};
use states::{State, States};

/// A sink that logs when devices go down, come back, or cannot be asked; never more than a few lines at once.
#[derive(Debug)]
pub(crate) struct DeviceLog(Mutex<(States, Pace)>);

impl DeviceLog {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new((States::default(), Pace::new(now))))
    }
}

#[async_trait]
impl Sink for DeviceLog {
    fn publish(&self, report: Arc<CycleReport>) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (states, pace) = &mut *log;
        states.note(&report);
        pace.lines(states, Instant::now()).iter().for_each(write);
    }

    fn retain(&self, groups: &[Arc<str>]) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.0.retain(groups);
    }
}

fn write(line: &Line) {
    match line {
        Line::One(change) => {
            let group = &*change.group;
            let (device, ip) = (change.label("device"), change.label("ip"));
            let reason = change.reason.as_deref();
            match change.state {
                State::Up => info!(group, device, ip, "a device is up again"),
                State::Down => info!(group, device, ip, reason, "a device is down"),
                State::Unknown => info!(group, device, ip, reason, "a device cannot be asked"),
            }
        }
        Line::Many {
            state,
            devices,
            group,
            groups,
            reasons,
        } => {
            let (group, reasons) = (group.as_deref(), reasons.as_deref());
            match state {
                State::Up => info!(devices, group, groups, "devices are up again"),
                State::Down => info!(devices, group, groups, reasons, "devices are down"),
                State::Unknown => info!(devices, group, groups, reasons, "devices cannot be asked"),
            }
        }
    }
}
