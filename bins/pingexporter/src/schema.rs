//! `pingexporter schema`

use crate::cli::{SchemaArgs, SchemaKind};
use crate::load::{self, Failure};

pub(crate) fn schema(args: &SchemaArgs) -> Result<(), Failure> {
    let schema = match args.kind {
        SchemaKind::Group => pe_config::group_schema(),
        SchemaKind::Push => pe_config::push_schema(),
        SchemaKind::Targets => pe_config::targets_schema(),
    };
    load::print(format!("{schema:#}\n").as_bytes())
}
