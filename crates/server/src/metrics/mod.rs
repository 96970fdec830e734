//! `/metrics`: what a server tells Prometheus. docs/metrics.md has the table, which a test compares with this one.
//!
//! Labels come from closed sets, written down here: a method, a code, a kind. Nothing that a client chose (a key, a
//! user, a lease, a path) becomes one, so that no client can make the page grow.
//!
//! Counters and histograms are written as things happen, gauges when the page is asked for (`page.rs`). All go to the
//! recorder that the server was given, so that two servers in one program do not mix.

mod methods;
mod page;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use synod_engine::SyncObserver;
use tonic::Status;

use methods::{METHODS, Stream};

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// One metric of [`METRICS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

const REQUESTS: &str = "synod_requests_total";
const DURATION: &str = "synod_request_duration_seconds";
const LOGINS: &str = "synod_logins_total";
const SYNC: &str = "synod_sync_duration_seconds";
const SYNC_CHANGES: &str = "synod_sync_changes_total";
const SYNC_FAILURES: &str = "synod_sync_failures_total";

/// Every metric of `/metrics`.
pub const METRICS: &[Metric] = &[
    metric(
        REQUESTS,
        Kind::Counter,
        &["method", "code"],
        "Requests answered. A stream counts once, when it opens.",
    ),
    metric(
        DURATION,
        Kind::Histogram,
        &["method"],
        "How long requests took that have one answer.",
    ),
    metric(
        LOGINS,
        Kind::Counter,
        &["result"],
        "Logins with a password.",
    ),
    metric(
        SYNC,
        Kind::Histogram,
        &[],
        "How long it took to make a group of changes durable.",
    ),
    metric(
        SYNC_CHANGES,
        Kind::Counter,
        &[],
        "Changes that were made durable.",
    ),
    metric(
        SYNC_FAILURES,
        Kind::Counter,
        &[],
        "Groups of changes that could not be made durable.",
    ),
    metric("synod_connections", Kind::Gauge, &[], "Open connections."),
    metric("synod_watchers", Kind::Gauge, &[], "Open watches."),
    metric(
        "synod_copies",
        Kind::Gauge,
        &[],
        "Copies of the store that are being made.",
    ),
    metric(
        "synod_ready",
        Kind::Gauge,
        &[],
        "1 when the store takes writes, as /readyz tells.",
    ),
    metric(
        "synod_alarm",
        Kind::Gauge,
        &["kind"],
        "1 while the store complains of this.",
    ),
    metric(
        "synod_auth_enabled",
        Kind::Gauge,
        &[],
        "1 when clients must log in.",
    ),
    metric("synod_users", Kind::Gauge, &[], "Users that exist."),
    metric("synod_keys", Kind::Gauge, &[], "Keys that exist."),
    metric("synod_leases", Kind::Gauge, &[], "Leases that live."),
    metric("synod_revision", Kind::Gauge, &[], "The store's revision."),
    metric(
        "synod_live_bytes",
        Kind::Gauge,
        &[],
        "Current data, in memory.",
    ),
    metric(
        "synod_history_bytes",
        Kind::Gauge,
        &[],
        "History that can still be read, in memory.",
    ),
    metric(
        "synod_disk_bytes",
        Kind::Gauge,
        &[],
        "What the data take on disk; 0 for a store in memory.",
    ),
    metric(
        "synod_quota_bytes",
        Kind::Gauge,
        &[],
        "What data and history may take; 0 without a bound.",
    ),
    metric(
        "synod_start_time_seconds",
        Kind::Gauge,
        &[],
        "When the server started, in seconds since 1970.",
    ),
    metric(
        "process_resident_memory_bytes",
        Kind::Gauge,
        &[],
        "Memory of the process. Linux only.",
    ),
    metric(
        "process_open_fds",
        Kind::Gauge,
        &[],
        "Open files and sockets of the process. Linux only.",
    ),
    metric(
        "etcd_server_has_leader",
        Kind::Gauge,
        &[],
        "1 when the store answers.",
    ),
    metric(
        "etcd_mvcc_db_total_size_in_bytes",
        Kind::Gauge,
        &[],
        "What the data take on disk, or in memory if that is more.",
    ),
    metric(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        Kind::Gauge,
        &[],
        "Bytes of it that are in use.",
    ),
    metric(
        "etcd_debugging_mvcc_current_revision",
        Kind::Gauge,
        &[],
        "The store's revision.",
    ),
    metric(
        "etcd_debugging_mvcc_watcher_total",
        Kind::Gauge,
        &[],
        "Open watches.",
    ),
];

/// The buckets that suit the histograms: from 50 microseconds to 10 seconds.
const BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// Every code of gRPC, by its number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// How a login ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Login {
    /// With a token.
    Accepted,
    /// With a wrong name or password.
    Refused,
    /// Too many logins were waiting.
    Busy,
}

/// A known method, by its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method(usize);

/// Where a server's numbers go, and the page that shows them. For one server.
pub struct Metrics {
    recorder: Box<dyn Recorder + Send + Sync>,
    render: Box<dyn Fn() -> String + Send + Sync>,
    places: HashMap<&'static str, usize>,
    methods: Vec<OfMethod>,
    logins: [Counter; 3],
    sync: Histogram,
    sync_changes: Counter,
    sync_failures: Counter,
}

/// The numbers of one method. A code gets a counter when it first occurs.
struct OfMethod {
    name: &'static str,
    codes: [OnceLock<Counter>; CODES.len()],
    duration: Option<Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl Metrics {
    /// Numbers go to `recorder`, and `render` gives them as the text of Prometheus, as
    /// `metrics-exporter-prometheus` has both. Histograms are in seconds; [buckets](Metrics::buckets) suit them.
    #[must_use]
    pub fn new(
        recorder: impl Recorder + Send + Sync + 'static,
        render: impl Fn() -> String + Send + Sync + 'static,
    ) -> Arc<Metrics> {
        for metric in METRICS {
            let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
            let unit: Option<Unit> = None;
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
        let counter =
            |name: &'static str| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let login = |result: &'static str| {
            let labels = vec![Label::from_static_parts("result", result)];
            recorder.register_counter(&Key::from_parts(LOGINS, labels), &METADATA)
        };
        let methods = METHODS.iter().map(|(name, stream)| OfMethod {
            name,
            codes: Default::default(),
            duration: (*stream == Stream::No).then(|| {
                let labels = vec![Label::from_static_parts("method", name)];
                recorder.register_histogram(&Key::from_parts(DURATION, labels), &METADATA)
            }),
        });
        let places = METHODS.iter().enumerate();
        Arc::new(Metrics {
            methods: methods.collect(),
            places: places.map(|(place, (name, _))| (*name, place)).collect(),
            logins: [login("accepted"), login("refused"), login("busy")],
            sync: recorder.register_histogram(&Key::from_static_name(SYNC), &METADATA),
            sync_changes: counter(SYNC_CHANGES),
            sync_failures: counter(SYNC_FAILURES),
            recorder: Box::new(recorder),
            render: Box::new(render),
        })
    }

    /// The bounds of buckets that suit the histograms, in seconds: from 50 microseconds to 10 seconds.
    #[must_use]
    pub fn buckets() -> &'static [f64] {
        BUCKETS
    }

    pub(crate) fn login(&self, login: Login) {
        let [accepted, refused, busy] = &self.logins;
        match login {
            Login::Accepted => accepted.increment(1),
            Login::Refused => refused.increment(1),
            Login::Busy => busy.increment(1),
        }
    }

    /// The method that a path names; what is unknown is one of them, too.
    pub(crate) fn method(&self, path: &str) -> Method {
        let name = methods::name(path);
        let unknown = METHODS.len().saturating_sub(1);
        Method(self.places.get(name).copied().unwrap_or(unknown))
    }

    /// Counts an answer whose headers are these.
    pub(crate) fn answered(
        &self,
        method: Method,
        http: StatusCode,
        headers: &HeaderMap,
        took: Duration,
    ) {
        let Some(of_method) = self.methods.get(method.0) else {
            return;
        };
        let code = match headers.get(Status::GRPC_STATUS) {
            Some(code) => code
                .to_str()
                .ok()
                .and_then(|code| code.parse().ok())
                .unwrap_or(2),
            // Of one that succeeds it comes behind the answer; and plain HTTP has none.
            None if http.is_success() => 0_usize,
            None if http == StatusCode::SERVICE_UNAVAILABLE => 14,
            None => 2,
        };
        let Some((slot, code)) = of_method.codes.get(code).zip(CODES.get(code)) else {
            return;
        };
        let counter = slot.get_or_init(|| {
            let labels = vec![
                Label::from_static_parts("method", of_method.name),
                Label::from_static_parts("code", code),
            ];
            self.recorder
                .register_counter(&Key::from_parts(REQUESTS, labels), &METADATA)
        });
        counter.increment(1);
        if let Some(duration) = &of_method.duration {
            duration.record(took.as_secs_f64());
        }
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.recorder
            .register_gauge(&Key::from_static_name(name), &METADATA)
    }

    fn gauge_of(&self, name: &'static str, label: (&'static str, &'static str)) -> Gauge {
        let labels = vec![Label::from_static_parts(label.0, label.1)];
        let key = Key::from_parts(name, labels);
        self.recorder.register_gauge(&key, &METADATA)
    }
}

impl SyncObserver for Metrics {
    fn synced(&self, took: Duration, changes: u64, succeeded: bool) {
        self.sync.record(took.as_secs_f64());
        if succeeded {
            self.sync_changes.increment(changes);
        } else {
            self.sync_failures.increment(1);
        }
    }
}
