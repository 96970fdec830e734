//! The methods that are counted by name.

/// Whether a method is a stream: how long it lasts tells nothing about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Yes,
    No,
}

/// The label of each method, and whether it is a stream. The last one stands for everything that is not here.
pub(super) const METHODS: &[(&str, Stream)] = &[
    ("KV/Range", Stream::No),
    ("KV/Put", Stream::No),
    ("KV/DeleteRange", Stream::No),
    ("KV/Txn", Stream::No),
    ("KV/Compact", Stream::No),
    ("Watch/Watch", Stream::Yes),
    ("Lease/LeaseGrant", Stream::No),
    ("Lease/LeaseRevoke", Stream::No),
    ("Lease/LeaseKeepAlive", Stream::Yes),
    ("Lease/LeaseTimeToLive", Stream::No),
    ("Lease/LeaseLeases", Stream::No),
    ("Cluster/MemberAdd", Stream::No),
    ("Cluster/MemberRemove", Stream::No),
    ("Cluster/MemberUpdate", Stream::No),
    ("Cluster/MemberList", Stream::No),
    ("Cluster/MemberPromote", Stream::No),
    ("Maintenance/Alarm", Stream::No),
    ("Maintenance/Status", Stream::No),
    ("Maintenance/Defragment", Stream::No),
    ("Maintenance/Hash", Stream::No),
    ("Maintenance/HashKV", Stream::No),
    ("Maintenance/Snapshot", Stream::Yes),
    ("Maintenance/MoveLeader", Stream::No),
    ("Maintenance/Downgrade", Stream::No),
    ("Auth/AuthEnable", Stream::No),
    ("Auth/AuthDisable", Stream::No),
    ("Auth/AuthStatus", Stream::No),
    ("Auth/Authenticate", Stream::No),
    ("Auth/UserAdd", Stream::No),
    ("Auth/UserGet", Stream::No),
    ("Auth/UserList", Stream::No),
    ("Auth/UserDelete", Stream::No),
    ("Auth/UserChangePassword", Stream::No),
    ("Auth/UserGrantRole", Stream::No),
    ("Auth/UserRevokeRole", Stream::No),
    ("Auth/RoleAdd", Stream::No),
    ("Auth/RoleGet", Stream::No),
    ("Auth/RoleList", Stream::No),
    ("Auth/RoleDelete", Stream::No),
    ("Auth/RoleGrantPermission", Stream::No),
    ("Auth/RoleRevokePermission", Stream::No),
    // They wait for others, so their time is not the server's either.
    ("Lock/Lock", Stream::Yes),
    ("Lock/Unlock", Stream::No),
    ("Election/Campaign", Stream::Yes),
    ("Election/Proclaim", Stream::No),
    ("Election/Leader", Stream::No),
    ("Election/Observe", Stream::Yes),
    ("Election/Resign", Stream::No),
    ("Health/Check", Stream::No),
    ("Health/Watch", Stream::Yes),
    ("Synod/Info", Stream::No),
    ("http", Stream::No),
    ("other", Stream::Yes),
];

/// The label that belongs to a path, if it is one of those known.
pub(super) fn name(path: &str) -> &str {
    match path {
        "/health" | "/livez" | "/readyz" | "/version" | "/metrics" => "http",
        // `/etcdserverpb.KV/Put` is `KV/Put`.
        _ => path
            .split_once('.')
            .map_or(path, |(_, rest)| match rest.split_once('.') {
                None => rest,
                // `/grpc.health.v1.Health/Check` and `/synod.v1.Synod/Info` have more of them.
                Some(_) => rest
                    .split_once('/')
                    .and_then(|(service, _)| service.rfind('.'))
                    .and_then(|dot| rest.get(dot.saturating_add(1)..))
                    .unwrap_or(rest),
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_short_names() {
        for (path, label) in [
            ("/etcdserverpb.KV/Put", "KV/Put"),
            ("/v3lockpb.Lock/Lock", "Lock/Lock"),
            ("/grpc.health.v1.Health/Check", "Health/Check"),
            ("/synod.v1.Synod/Info", "Synod/Info"),
            ("/metrics", "http"),
            ("/a.b.c", "b.c"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(name(path), label);
        }
    }
}
