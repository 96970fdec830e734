//! etcd v3 on the wire: protobuf messages and gRPC stubs of etcd's services and of Synod's own, and
//! their translation to and from the words of `synod-store`.
//!
//! This crate serves Synod's other crates and promises no stability. No protobuf or gRPC type
//! leaves the crates that use it.
//!
//! # Layout
//!
//! - One module for each protobuf package: [`mvccpb`], [`authpb`], [`etcdserverpb`], [`v3lockpb`],
//!   [`v3electionpb`], [`synod_v1`]. They are generated from `proto/` by `cargo xtask codegen` and
//!   committed. (The generator writes etcd's `peerURLs` as `peer_ur_ls`.)
//! - [`convert`]: requests, answers and errors, in both directions.
#![doc(hidden)]

pub mod convert;

/// Makes a module of a generated file. Lints are for what people write.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, missing_debug_implementations, unreachable_pub)]
        #[allow(clippy::all, clippy::pedantic, clippy::restriction)]
        pub mod $name {
            include!(concat!("generated/", $file));
        }
    };
}

generated!(
    /// Keys with their values, and the events of watches.
    mvccpb, "mvccpb.rs"
);
generated!(
    /// Users, roles and permissions.
    authpb, "authpb.rs"
);
generated!(
    /// The services of every etcd server: KV, Watch, Lease, Cluster, Maintenance, Auth.
    etcdserverpb, "etcdserverpb.rs"
);
generated!(
    /// etcd's Lock service.
    v3lockpb, "v3lockpb.rs"
);
generated!(
    /// etcd's Election service.
    v3electionpb, "v3electionpb.rs"
);
generated!(
    /// Synod's own service: what `synod status` asks.
    synod_v1, "synod.v1.rs"
);
