//! TLS over a connection: the handshake, what it agreed on, and whom to trust.
