//! Which of a family's sockets a request leaves through.
//!
//! A packet to a neighbour that does not answer stays in the send buffer of its socket until the kernel gives the neighbour up,
//! some seconds later, and a few thousand of them fill it (a few hundred where `net.core.wmem_max` is small and CAP_NET_ADMIN
//! missing). So there are several sockets. Requests leave through the first one while that has room, and through further
//! ones, which are opened when they are needed, up to a bound. Once there are several, requests to targets that were lost last
//! time leave the first one to the others, so that a target that answers finds room however many do not.
//!
//! Takes every time as an argument; no I/O.

use crate::proto::Nanos;

/// How long a full socket is left alone: entries leave it as neighbours are given up, one by one.
const REST: Nanos = 10_000_000;

/// Which requests leave through the same sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// To targets that answered last time, or were not asked before.
    First,
    /// To others: they leave the first socket alone where there are several. With sockets that each have an identifier, the
    /// number says which one is theirs; else it is 0.
    Other(u8),
}

/// What is known of the sockets of a family, in the order in which they were opened.
#[derive(Debug)]
pub(super) struct Senders {
    /// Until when each is left alone; one at least.
    resting: Vec<Nanos>,
    /// The one that was chosen last for [`Lane::Other`].
    other: usize,
}

/// Where a request is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Through this socket.
    Socket(usize),
    /// Through a further socket, or nowhere if there can be none.
    Another,
}

impl Senders {
    /// One socket.
    pub(super) fn new() -> Self {
        Self {
            resting: vec![0],
            other: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.resting.len()
    }

    /// Notes that another one was opened.
    pub(super) fn add(&mut self) {
        self.resting.push(0);
    }

    /// Has the first two change places.
    pub(super) fn swap_first(&mut self) {
        self.resting.swap(0, 1);
    }

    /// Notes that a socket has no room at `now`.
    pub(super) fn rest(&mut self, at: usize, now: Nanos) {
        self.resting[at] = now + REST;
    }

    fn has_room(&self, at: usize, now: Nanos) -> bool {
        self.resting[at] <= now
    }

    /// Chooses for a request at `now`.
    #[inline]
    pub(super) fn choose(&mut self, lane: Lane, now: Nanos) -> Choice {
        match lane {
            Lane::First if self.has_room(0, now) => Choice::Socket(0),
            Lane::Other(0) if self.len() == 1 && self.has_room(0, now) => Choice::Socket(0),
            lane => self.choose_other(lane, now),
        }
    }

    fn choose_other(&mut self, lane: Lane, now: Nanos) -> Choice {
        if let Lane::Other(own) = lane
            && own > 0
        {
            let own = usize::from(own);
            if own >= self.len() {
                return Choice::Another;
            }
            if self.has_room(own, now) {
                return Choice::Socket(own);
            }
        }
        self.any_other(now).map_or(Choice::Another, Choice::Socket)
    }

    /// Chooses for a request where there can be no further socket; `None` if none has room for it.
    pub(super) fn make_do(&mut self, now: Nanos) -> Option<usize> {
        if self.len() == 1 {
            return self.has_room(0, now).then_some(0);
        }
        self.any_other(now)
    }

    /// The next of the sockets after the first that has room.
    fn any_other(&mut self, now: Nanos) -> Option<usize> {
        let from = self.other.max(1);
        let mut turn = (from..self.len()).chain(1..from.min(self.len()));
        let found = turn.find(|at| self.has_room(*at, now))?;
        self.other = found;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = 1_000_000_000;

    #[test]
    fn one_socket_serves_all_while_it_has_room() {
        let mut senders = Senders::new();
        for lane in [Lane::First, Lane::Other(0)] {
            assert_eq!(senders.choose(lane, NOW), Choice::Socket(0));
        }
        senders.rest(0, NOW);
        for lane in [Lane::First, Lane::Other(0)] {
            assert_eq!(senders.choose(lane, NOW), Choice::Another);
        }
        assert_eq!(senders.make_do(NOW), None);
        assert_eq!(senders.choose(Lane::First, NOW + REST), Choice::Socket(0));
    }

    #[test]
    fn the_first_of_several_is_kept_for_targets_that_answer() {
        let mut senders = Senders::new();
        senders.add();
        senders.add();
        assert_eq!(senders.choose(Lane::First, NOW), Choice::Socket(0));
        assert_eq!(senders.choose(Lane::Other(0), NOW), Choice::Socket(1));
        senders.rest(1, NOW);
        assert_eq!(senders.choose(Lane::Other(0), NOW), Choice::Socket(2));
        senders.rest(2, NOW);
        assert_eq!(senders.choose(Lane::Other(0), NOW), Choice::Another);
        assert_eq!(senders.make_do(NOW), None);
        assert_eq!(senders.choose(Lane::First, NOW), Choice::Socket(0));
        // Where the first is full, the others serve all.
        senders.rest(0, NOW);
        assert_eq!(senders.choose(Lane::First, NOW), Choice::Another);
        senders.add();
        assert_eq!(senders.choose(Lane::First, NOW), Choice::Socket(3));
        assert_eq!(
            senders.choose(Lane::Other(0), NOW + REST),
            Choice::Socket(3)
        );
    }

    #[test]
    fn a_lane_with_a_socket_of_its_own_has_it_opened() {
        let mut senders = Senders::new();
        assert_eq!(senders.choose(Lane::Other(2), NOW), Choice::Another);
        // If it cannot be opened, any will do.
        assert_eq!(senders.make_do(NOW), Some(0));
        senders.add();
        senders.add();
        assert_eq!(senders.choose(Lane::Other(2), NOW), Choice::Socket(2));
        assert_eq!(senders.choose(Lane::Other(1), NOW), Choice::Socket(1));
        senders.rest(2, NOW);
        assert_eq!(senders.choose(Lane::Other(2), NOW), Choice::Socket(1));
    }
}
