//! `pingexporter check`

use crate::cli::FileArgs;
use crate::load::{self, Failure};

pub(crate) fn check(args: &FileArgs) -> Result<(), Failure> {
    let (registry, _) = load::registry(&args.dns_servers)?;
    let loaded = load::load(args, &registry, None)?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let config = &loaded.config;
    eprintln!(
        "the configuration is in order: {} devices in {} files, {} warnings",
        config.device_count(),
        config.groups.len(),
        loaded.warnings.len()
    );
    Ok(())
}
