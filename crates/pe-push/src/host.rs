//! What this agent is called where nothing else says so.

/// The host's name (gethostname), for the label `instance` of the agent's own metrics.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
