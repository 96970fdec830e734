//! [`forward!`](crate::forward): the methods that a store around another store leaves as they are.

/// Methods of [`Store`](crate::Store) that do nothing but call the same method of a store in a field, for
/// stores that wrap another one and change the rest of what it does.
///
/// Write it into the `impl Store`: the field, then the names of the methods. Those that a wrapper is written for (puts,
/// reads, transactions, watches, compactions) are not among them.
///
/// ```text
/// impl Store for Wrapper {
///     synod_store::forward!(store: leases, status, alarms, disarm, hash_kv, defragment, members, replies);
///     // ...
/// }
/// ```
#[macro_export]
macro_rules! forward {
    ($field:ident: $($method:ident),+ $(,)?) => {
        $($crate::forward!(@ $field $method);)+
    };
    (@ $field:ident lease_grant) => {
        fn lease_grant(
            &self,
            request: $crate::LeaseGrantRequest,
        ) -> $crate::BoxFuture<'_, $crate::Result<$crate::LeaseGrantResponse>> {
            self.$field.lease_grant(request)
        }
    };
    (@ $field:ident lease_revoke) => {
        fn lease_revoke(
            &self,
            id: $crate::LeaseId,
        ) -> $crate::BoxFuture<'_, $crate::Result<$crate::LeaseRevokeResponse>> {
            self.$field.lease_revoke(id)
        }
    };
    (@ $field:ident lease_keep_alive) => {
        fn lease_keep_alive(
            &self,
            id: $crate::LeaseId,
        ) -> $crate::BoxFuture<'_, $crate::Result<$crate::LeaseKeepAliveResponse>> {
            self.$field.lease_keep_alive(id)
        }
    };
    (@ $field:ident lease_time_to_live) => {
        fn lease_time_to_live(
            &self,
            id: $crate::LeaseId,
            keys: bool,
        ) -> $crate::BoxFuture<'_, $crate::Result<$crate::LeaseTimeToLiveResponse>> {
            self.$field.lease_time_to_live(id, keys)
        }
    };
    (@ $field:ident leases) => {
        fn leases(&self) -> $crate::BoxFuture<'_, $crate::Result<$crate::LeaseListResponse>> {
            self.$field.leases()
        }
    };
    (@ $field:ident status) => {
        fn status(&self) -> $crate::BoxFuture<'_, $crate::Result<$crate::StatusResponse>> {
            self.$field.status()
        }
    };
    (@ $field:ident alarms) => {
        fn alarms(&self) -> $crate::BoxFuture<'_, $crate::Result<Vec<$crate::Alarm>>> {
            self.$field.alarms()
        }
    };
    (@ $field:ident disarm) => {
        fn disarm(
            &self,
            kind: $crate::AlarmKind,
        ) -> $crate::BoxFuture<'_, $crate::Result<Vec<$crate::Alarm>>> {
            self.$field.disarm(kind)
        }
    };
    (@ $field:ident hash_kv) => {
        fn hash_kv(
            &self,
            revision: $crate::Revision,
        ) -> $crate::BoxFuture<'_, $crate::Result<$crate::HashResponse>> {
            self.$field.hash_kv(revision)
        }
    };
    (@ $field:ident defragment) => {
        fn defragment(&self) -> $crate::BoxFuture<'_, $crate::Result<()>> {
            self.$field.defragment()
        }
    };
    (@ $field:ident members) => {
        fn members(&self) -> $crate::BoxFuture<'_, $crate::Result<Vec<$crate::Member>>> {
            self.$field.members()
        }
    };
    (@ $field:ident replies) => {
        fn replies(&self) -> $crate::Replies {
            self.$field.replies()
        }
    };
}
