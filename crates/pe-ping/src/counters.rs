//! What the engine counts about itself.

pe_scrape::metrics! {
    /// Counters of a running engine. One thread writes them, so no atomic addition is needed.
    pub(crate) struct LiveCounters {

    /// Echo requests that left.
        sent: counter("pingexporter_icmp_requests_sent_total", "ICMP echo requests that left this machine"),

    /// Replies that were matched to a probe in time.
        received: counter("pingexporter_icmp_replies_received_total", "ICMP echo replies that answered a request in time"),

    /// Further replies to answered probes.
        duplicates: counter("pingexporter_icmp_replies_duplicate_total", "ICMP echo replies to requests that had been answered already"),

    /// Replies after the deadline.
        late: counter("pingexporter_icmp_replies_late_total", "ICMP echo replies that came after the deadline of their request"),

    /// Replies with one of our identifiers that are not to a request of ours: no cookie, or the wrong source or
    /// sequence.
        foreign: counter("pingexporter_icmp_replies_foreign_total", "ICMP echo replies that reached the socket and were not to a request of ours"),

    /// Replies to a request of ours from an address that it was not sent to.
        wrong_source: counter("pingexporter_icmp_replies_wrong_source_total", "ICMP echo replies to a request of ours that came from another address"),

    /// Replies with our cookie whose payload was changed on the way.
        altered: counter("pingexporter_icmp_replies_altered_total", "ICMP echo replies whose payload was changed on the way"),

    /// Messages whose checksum was wrong.
        bad_checksum: counter("pingexporter_icmp_bad_checksum_total", "ICMP messages with a wrong checksum"),

    /// ICMP errors that ended a probe.
        icmp_errors: counter("pingexporter_icmp_errors_received_total", "ICMP errors that ended a request"),

    /// Received packets that were dropped because the socket's buffer was full.
        receive_drops: counter("pingexporter_icmp_receive_drops_total", "Received packets that this machine dropped because the socket buffer was full"),

    /// Requests that could not be sent.
        send_errors: counter("pingexporter_icmp_send_errors_total", "ICMP echo requests that could not be sent"),

    /// Steps of the wall clock that were noticed.
        clock_steps: counter("pingexporter_icmp_clock_steps_total", "Steps of the wall clock noticed while measuring"),
    }
    /// Counts since the engine was opened.
    pub struct Counters = snapshot;
}
