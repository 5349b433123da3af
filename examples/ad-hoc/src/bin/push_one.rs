//! Pushes one value to a Pushgateway.
//!
//! `cargo run -p example-ad-hoc --bin push_one -- http://127.0.0.1:9091 backup_bytes 1.5e9`

use std::error::Error;

use pe_push::{GroupingKey, Pushgateway};
use pe_scrape::exposition::Block;
use pe_scrape::{FrameBuilder, LabelSet, MetricDescriptor};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, name, value] = arguments.as_slice() else {
        return Err("usage: push_one URL NAME VALUE".into());
    };
    let metric = MetricDescriptor::gauge(name.clone(), "Pushed by hand");
    let frame = FrameBuilder::new(&[metric])?
        .row(LabelSet::empty(), &[value.parse()?])
        .build();
    Pushgateway::new(url)?
        .put(&GroupingKey::new("ad-hoc")?, &[Block::new(&frame)])
        .await?;
    println!("pushed {name} {value}");
    Ok(())
}
