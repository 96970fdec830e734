//! Whether the server serves: gRPC's health service, and what plain HTTP clients ask at `/health` (as etcd answers
//! it), `/livez`, `/readyz`, `/version` and `/metrics`. None of them needs a login, as in etcd, and none tells anything
//! that was stored.

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

use crate::state::{Api, Counted, stopped};

/// How often a client that watches the server's health hears of a change at the latest.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// How many watches of the server's health there may be, each of which looks every [`HEALTH_INTERVAL`]: one for each
/// connection that there may be unless told otherwise. They need no login, so they are counted apart.
const MAX_WATCHES: u64 = 10_000;

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

    /// Why the store takes no writes; `None` when it does.
    pub(crate) async fn unready(&self) -> Option<String> {
        if self.stop.is_cancelled() {
            return Some("the server is shutting down".to_owned());
        }
        match self.store().status().await {
            // An alarm, or that a failed sync has stopped the store.
            Ok(status) => status.errors.into_iter().next(),
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
        let routes = grpc
            .route("/health", get(health).with_state(self.clone()))
            .route("/livez", get(alive))
            .route("/readyz", get(ready).with_state(self.clone()))
            .route("/version", get(version).with_state(self.clone()));
        #[cfg(feature = "metrics")]
        let routes = routes.route("/metrics", get(metrics).with_state(self.clone()));
        routes
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
        let open = Counted::within(&self.state.health, MAX_WATCHES)?;
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
        let answers = changes.take_until(stop).chain(end).map(move |answer| {
            // It counts for as long as this stream lives.
            let _ = &open;
            answer
        });
        Ok(Response::new(answers.boxed()))
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

/// Whether the server runs at all: whoever restarts those that do not asks here.
async fn alive() -> &'static str {
    "ok\n"
}

/// Whether the store takes writes: whoever sends clients to servers asks here.
async fn ready(State(api): State<Api>) -> impl IntoResponse {
    match api.unready().await {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Everything in the text format of Prometheus.
#[cfg(feature = "metrics")]
async fn metrics(State(api): State<Api>) -> axum::response::Response {
    match &api.state.metrics {
        Some(metrics) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            metrics.page(&api).await,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
