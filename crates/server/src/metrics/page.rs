//! The page: gauges as they are now, then everything as text.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use synod_store::AlarmKind;

use super::Metrics;
use crate::state::Api;

impl Metrics {
    /// The page of a server.
    pub(crate) async fn page(&self, api: &Api) -> String {
        let state = &api.state;
        let options = api.options();
        // Counts up to 2^53 are exact, and no gauge has more.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let set = |name, value: u64| self.gauge(name).set(value as f64);
        let watchers = state.watchers.load(Ordering::Relaxed);
        set(
            "synod_connections",
            state.connections.load(Ordering::Relaxed) as u64,
        );
        set("synod_watchers", watchers);
        set("etcd_debugging_mvcc_watcher_total", watchers);
        let copies = crate::state::MAX_COPIES.saturating_sub(state.copies.available_permits());
        set("synod_copies", copies as u64);
        set("synod_quota_bytes", options.quota_bytes);
        let started = state.started.duration_since(SystemTime::UNIX_EPOCH);
        set(
            "synod_start_time_seconds",
            started.map_or(0, |since| since.as_secs()),
        );

        let status = api.store().status().await.ok();
        set("etcd_server_has_leader", u64::from(status.is_some()));
        if let Some(status) = &status {
            set("etcd_mvcc_db_total_size_in_bytes", status.db_size);
            set(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                status.db_size_in_use,
            );
            set(
                "etcd_debugging_mvcc_current_revision",
                status.header.revision.0,
            );
            set("synod_revision", status.header.revision.0);
        }
        let alarms = api.store().alarms().await.unwrap_or_default();
        let stands = |kind| u8::from(alarms.iter().any(|alarm| alarm.kind == kind));
        let alarm = |kind, stands: u8| {
            self.gauge_of("synod_alarm", ("kind", kind))
                .set(f64::from(stands))
        };
        alarm("nospace", stands(AlarmKind::NoSpace));
        alarm("corrupt", stands(AlarmKind::Corrupt));
        let unready = api.unready().await;
        set("synod_ready", u64::from(unready.is_none()));
        if let Some(engine) = &state.engine {
            let stats = engine.stats();
            set("synod_keys", stats.keys);
            set("synod_leases", stats.leases);
            set("synod_live_bytes", stats.live_bytes);
            set("synod_history_bytes", stats.history_bytes);
            set("synod_disk_bytes", stats.disk_bytes);
        }
        if let Some(accounts) = &state.accounts {
            set("synod_auth_enabled", u64::from(accounts.is_enabled()));
            set("synod_users", accounts.users() as u64);
        }
        let process = tokio::task::spawn_blocking(|| (resident_bytes(), open_files())).await;
        let (resident, files) = process.unwrap_or_default();
        if let Some(resident) = resident {
            set("process_resident_memory_bytes", resident);
        }
        if let Some(files) = files {
            set("process_open_fds", files);
        }
        (self.render)()
    }
}

/// Memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// Open files of this process, where the system tells.
fn open_files() -> Option<u64> {
    // One of them is the directory that is being read.
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some(open.saturating_sub(1) as u64)
}
