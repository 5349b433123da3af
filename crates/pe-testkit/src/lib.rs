//! Real servers and simulated networks for tests.
