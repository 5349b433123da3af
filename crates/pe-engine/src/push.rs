//! From the push configuration to a sink.

use std::sync::Arc;

use pe_config::PushConfig;
use pe_push::{PushError, Pushgateway, PushgatewaySink, SinkOptions};
use pe_scrape::Sink;

use crate::EngineError;

/// The sink that the configuration asks for.
pub(crate) fn push_sink(config: &PushConfig) -> Result<Arc<dyn Sink>, EngineError> {
    let failed = |source: PushError| EngineError::Push {
        url: config.url.clone(),
        source,
    };
    let mut gateway = Pushgateway::new(&config.url)
        .map_err(failed)?
        .timeout(config.timeout);
    if let (Some(user), Some(password)) = (&config.username, &config.password) {
        gateway = gateway
            .basic_auth(user, password.expose())
            .map_err(failed)?;
    }
    let mut options = SinkOptions::default();
    options.grouping = match config.grouping {
        pe_config::Grouping::Device => pe_push::Grouping::Device,
        pe_config::Grouping::Config => pe_push::Grouping::Config,
    };
    options.max_parallel = config.max_parallel_pushes;
    Ok(Arc::new(PushgatewaySink::new(gateway, options)))
}
