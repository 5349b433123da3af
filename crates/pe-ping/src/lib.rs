//! A batched ICMP echo engine.
