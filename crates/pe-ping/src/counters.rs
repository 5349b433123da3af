//! What the engine counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use pe_scrape::{Frame, FrameBuilder, LabelSet, MetricDescriptor};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $field:ident: $name:literal, $help:literal;)+) => {
        /// Counts since the engine was opened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        /// Counters of a running engine. One thread writes them, so no atomic addition is needed.
        #[derive(Debug, Default)]
        pub(crate) struct LiveCounters {
            $(pub(crate) $field: Counter,)+
        }

        impl LiveCounters {
            pub(crate) fn snapshot(&self) -> Counters {
                Counters { $($field: self.$field.get(),)+ }
            }
        }

        impl Counters {
            fn descriptors() -> Vec<MetricDescriptor> {
                vec![$(MetricDescriptor::counter($name, $help),)+]
            }

            fn values(&self) -> Vec<f64> {
                vec![$(self.$field as f64,)+]
            }
        }
    };
}

counters! {
    /// Echo requests that left.
    sent: "pingexporter_icmp_requests_sent_total",
        "ICMP echo requests that left this machine";
    /// Replies that were matched to a probe in time.
    received: "pingexporter_icmp_replies_received_total",
        "ICMP echo replies that answered a request in time";
    /// Further replies to answered probes.
    duplicates: "pingexporter_icmp_replies_duplicate_total",
        "ICMP echo replies to requests that had been answered already";
    /// Replies after the deadline.
    late: "pingexporter_icmp_replies_late_total",
        "ICMP echo replies that came after the deadline of their request";
    /// Replies with one of our identifiers that are not to a request of ours: no cookie, or the wrong source or
    /// sequence.
    foreign: "pingexporter_icmp_replies_foreign_total",
        "ICMP echo replies that reached the socket and were not to a request of ours";
    /// Replies with our cookie whose payload was changed on the way.
    altered: "pingexporter_icmp_replies_altered_total",
        "ICMP echo replies whose payload was changed on the way";
    /// Messages whose checksum was wrong.
    bad_checksum: "pingexporter_icmp_bad_checksum_total",
        "ICMP messages with a wrong checksum";
    /// ICMP errors that ended a probe.
    icmp_errors: "pingexporter_icmp_errors_received_total",
        "ICMP errors that ended a request";
    /// Received packets that were dropped because the socket's buffer was full.
    receive_drops: "pingexporter_icmp_receive_drops_total",
        "Received packets that this machine dropped because the socket buffer was full";
    /// Requests that could not be sent.
    send_errors: "pingexporter_icmp_send_errors_total",
        "ICMP echo requests that could not be sent";
    /// Steps of the wall clock that were noticed.
    clock_steps: "pingexporter_icmp_clock_steps_total",
        "Steps of the wall clock noticed while measuring";
}

impl Counters {
    /// The counters as a frame of `pingexporter_icmp_…` metrics with the given labels.
    #[must_use]
    pub fn frame(&self, labels: LabelSet) -> Frame {
        FrameBuilder::new(&Self::descriptors())
            .expect("the names are distinct and valid")
            .row(labels, &self.values())
            .build()
    }
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            duplicates: self.duplicates + other.duplicates,
            late: self.late + other.late,
            foreign: self.foreign + other.foreign,
            altered: self.altered + other.altered,
            bad_checksum: self.bad_checksum + other.bad_checksum,
            icmp_errors: self.icmp_errors + other.icmp_errors,
            receive_drops: self.receive_drops + other.receive_drops,
            send_errors: self.send_errors + other.send_errors,
            clock_steps: self.clock_steps + other.clock_steps,
        }
    }
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
