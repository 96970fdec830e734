//! Metrics of a server in this process, as the command `synod` sets them up.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusBuilder;
use synod_server::Metrics;

/// A recorder of one server's own.
///
/// # Panics
///
/// Never: the buckets are right.
#[must_use]
pub fn metrics() -> Arc<Metrics> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(Metrics::buckets())
        .expect("buckets")
        .build_recorder();
    let handle = recorder.handle();
    Metrics::new(recorder, move || {
        handle.run_upkeep();
        handle.render()
    })
}
