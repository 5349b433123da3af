//! Says everything that is wrong with a configuration, without measuring anything.

use crate::failure::Failure;
use crate::load::Loader;
use crate::output::{count, tell};

pub(crate) fn check(loader: &Loader) -> Result<(), Failure> {
    let loaded = loader.load(None)?;
    for warning in &loaded.warnings {
        tell(warning);
    }
    let config = &loaded.config;
    tell(format_args!(
        "the configuration is in order: {} in {}, {}",
        count(config.device_count(), "device"),
        count(config.groups.len(), "file"),
        count(loaded.warnings.len(), "warning"),
    ));
    Ok(())
}
