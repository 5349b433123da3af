//! The interface and the source address that sockets are bound to: both may come and go while the engine runs.
//!
//! A socket stays bound to an interface that is gone, also when another of the same name is made. So this looks for changes
//! from time to time, as long as there is something to send, and opens the sockets again.

use tracing::{debug, info, warn};

use crate::channel::{Channel, ChannelSettings};
use crate::proto::Nanos;
use crate::sys::Absent;

/// The time from one look to the next. A look takes some microseconds.
const LOOK: Nanos = 200_000_000;

/// What the sockets are bound to.
pub(crate) struct Binding {
    settings: ChannelSettings,
    /// The index of the interface, 0 where none is wanted.
    index: u32,
    /// When to look again.
    look_at: Nanos,
    /// What was missing at the last look.
    absent: Option<Absent>,
}

impl Binding {
    /// `None` where sockets are bound to nothing that may change.
    pub(crate) fn new(settings: ChannelSettings) -> Option<Self> {
        settings.options.are_bound().then(|| {
            let mut binding = Self {
                settings,
                index: 0,
                look_at: 0,
                absent: None,
            };
            let found = binding.settings.options.look();
            binding.tell(found.err());
            binding.index = found.unwrap_or(0);
            binding
        })
    }

    /// The index of the interface, which IPv6 link-local addresses need; 0 where none is wanted.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Looks for changes, if it is time to. Channels get the sockets that they need, or are told what is missing.
    pub(super) fn follow(&mut self, channels: &mut [Channel], now: Nanos) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK;
        let found = self.settings.options.look();
        self.tell(found.err());
        match found {
            Err(absent) => {
                for channel in channels {
                    channel.absent = Some(absent);
                }
            }
            Ok(index) => {
                let is_other = index != self.index;
                for channel in channels {
                    if is_other || channel.absent.is_some() {
                        self.open_again(channel, now);
                    }
                }
                self.index = index;
            }
        }
    }

    fn open_again(&self, channel: &mut Channel, now: Nanos) {
        match Channel::open(channel.family, &self.settings) {
            Ok(opened) => {
                *channel = opened;
                channel.set_empty_at(now);
            }
            Err(error) => {
                // Tried again at the next look.
                debug!(
                    error = pe_scrape::with_causes(&error),
                    "an ICMP socket cannot be opened again"
                );
                channel.absent = Some(Absent::Interface);
            }
        }
    }

    /// Logs that something went away, or came back.
    fn tell(&mut self, absent: Option<Absent>) {
        let options = &self.settings.options;
        let interface = options.interface.as_deref();
        let source = options.source.map(tracing::field::display);
        match absent {
            _ if absent == self.absent => {}
            Some(Absent::Interface) => {
                warn!(
                    interface,
                    source, "the interface to send through is not there"
                );
            }
            Some(Absent::Source) => {
                warn!(interface, source, "the address to send from is not there");
            }
            None => info!(
                interface,
                source, "the interface and address to send from are there"
            ),
        }
        self.absent = absent;
    }
}
