//! A datagram and its answer.
