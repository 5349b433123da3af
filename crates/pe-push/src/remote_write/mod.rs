//! Remote write: what leaves for Prometheus, VictoriaMetrics, Mimir or Thanos.
//!
//! `blocks` makes sample blocks of reports, and `stale` adds the markers of series that have ended. `wire` encodes them, `work`
//! cuts them into requests, and `verdict` says what an answer means.

mod blocks;
mod stale;
#[cfg(test)]
mod testing;
mod verdict;
mod wire;
mod work;
