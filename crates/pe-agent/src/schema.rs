//! Prints the JSON Schema of one kind of configuration file.

use pe_scrape::{ScraperRegistry, SinkRegistry};

use crate::cli::SchemaKind;
use crate::failure::Failure;
use crate::output;

pub(crate) fn schema(
    kind: SchemaKind,
    scrapers: &ScraperRegistry,
    sinks: &SinkRegistry,
) -> Result<(), Failure> {
    let schema = match kind {
        SchemaKind::Group => pe_config::group_schema(scrapers),
        SchemaKind::Push => pe_config::push_schema(sinks),
        SchemaKind::Targets => pe_config::targets_schema(),
    };
    output::print(format!("{schema:#}\n").as_bytes())
}
