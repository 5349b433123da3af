//! Pings a list of addresses and prints the round-trip times.
//!
//! `cargo run -p example-ad-hoc --bin ping_list -- 127.0.0.1 127.0.0.2 ::1`

use std::error::Error;
use std::net::IpAddr;

use pe_ping::{Pinger, Sweep};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let targets: Vec<IpAddr> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let report = Pinger::new()?.sweep(Sweep::new(targets)).await?;
    for (address, stats) in report.iter() {
        match stats.mean_rtt() {
            Some(rtt) => println!("{address}: {rtt:?}"),
            None => println!("{address}: no answer"),
        }
    }
    Ok(())
}
