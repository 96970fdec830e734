//! Whether the server serves: gRPC's health service, and what plain HTTP clients ask at `/health`,
//! `/version` and `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::json;
use synod_store::AlarmKind;
use tonic::{Request, Response, Status, async_trait};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::state::{Api, stopped};

/// How often a client that watches the server's health hears of a change at the latest.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

impl Api {
    /// Why the store does not serve; `None` when it does.
    async fn ailment(&self) -> Option<String> {
        match self.store().alarms().await {
            Ok(alarms) => alarms.first().map(|alarm| {
                match alarm.kind {
                    AlarmKind::NoSpace => "ALARM NOSPACE",
                    AlarmKind::Corrupt => "ALARM CORRUPT",
                }
                .to_owned()
            }),
            Err(error) => Some(error.to_string()),
        }
    }

    async fn serving(&self) -> ServingStatus {
        match self.store().status().await {
            Ok(_) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        }
    }

    /// What is answered to plain HTTP.
    pub(crate) fn http_routes(&self, grpc: Router) -> Router {
        grpc.route("/health", get(health).with_state(self.clone()))
            .route("/version", get(version).with_state(self.clone()))
            .route("/metrics", get(metrics).with_state(self.clone()))
    }
}

fn answer(serving: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: serving.into(),
    }
}

/// As in etcd there is one service to ask about: the server, whose name is empty.
#[async_trait]
impl Health for Api {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(self.serving().await)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.get_ref().service.is_empty();
        let api = self.clone();
        let changes = futures_util::stream::unfold(None, move |last| {
            let api = api.clone();
            async move {
                loop {
                    let now = if known {
                        api.serving().await
                    } else {
                        ServingStatus::ServiceUnknown
                    };
                    if last != Some(now) {
                        return Some((Ok(answer(now)), Some(now)));
                    }
                    tokio::time::sleep(HEALTH_INTERVAL).await;
                }
            }
        });
        let stop = self.stop.clone().cancelled_owned();
        let end = futures_util::stream::once(async { Err(stopped()) });
        Ok(Response::new(changes.take_until(stop).chain(end).boxed()))
    }
}

async fn health(State(api): State<Api>) -> impl IntoResponse {
    let ailment = api.ailment().await;
    let status = match ailment {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    // etcd writes the boolean as a string.
    let healthy = ailment.is_none().to_string();
    let body = json!({ "health": healthy, "reason": ailment.unwrap_or_default() });
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
}

async fn version(State(api): State<Api>) -> impl IntoResponse {
    match api.store().status().await {
        Ok(status) => {
            let body = json!({ "etcdserver": status.version, "etcdcluster": status.version });
            (
                StatusCode::OK,
                [(header::CONTENT_TYPE, "application/json")],
                body.to_string(),
            )
        }
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            error.to_string(),
        ),
    }
}

/// A few numbers in the text format of Prometheus, with etcd's names where etcd has them.
async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let state = &api.state;
    let status = api.store().status().await.ok();
    let mut body = String::new();
    let mut line = |kind: &str, name: &str, help: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            body,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    };
    line(
        "gauge",
        "etcd_server_has_leader",
        "Whether the store answers.",
        u64::from(status.is_some()),
    );
    if let Some(status) = status {
        line(
            "gauge",
            "etcd_mvcc_db_total_size_in_bytes",
            "Bytes that the store takes up.",
            status.db_size,
        );
        line(
            "gauge",
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Bytes of it that are in use.",
            status.db_size_in_use,
        );
        line(
            "gauge",
            "etcd_debugging_mvcc_current_revision",
            "The store's revision.",
            status.header.revision.0,
        );
    }
    line(
        "gauge",
        "etcd_debugging_mvcc_watcher_total",
        "Open watches.",
        state.watchers.load(Ordering::Relaxed),
    );
    line(
        "gauge",
        "synod_connections",
        "Open connections.",
        state.connections.load(Ordering::Relaxed) as u64,
    );
    line(
        "counter",
        "synod_requests_total",
        "Requests since the start; a stream counts once.",
        state.requests.load(Ordering::Relaxed),
    );
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        body,
    )
}
