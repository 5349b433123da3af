//! The PingExporter agent.

fn main() {}
