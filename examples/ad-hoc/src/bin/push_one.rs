//! Pushes one value to a Pushgateway.
//!
//! `cargo run -p example-ad-hoc --bin push_one -- http://127.0.0.1:9091 backup_bytes 1.5e9`

use pe_push::Pushgateway;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, metric, value] = arguments.as_slice() else {
        return Err("usage: push_one URL METRIC VALUE".into());
    };
    let value = value.parse()?;
    Pushgateway::new(url)?
        .push_value("ad-hoc", metric, value)
        .await?;
    println!("pushed {metric} {value}");
    Ok(())
}
