//! The KV service without a detour: most calls are its, and the router of plain HTTP, which finds every service by
//! matching the path, would box each of them three times over.
//!
//! What is not KV's goes to the router as before; so does a path that only begins like it, which KV's own service
//! answers with UNIMPLEMENTED, as the router has it do.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use synod_wire::etcdserverpb::kv_server::KvServer;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use crate::state::Api;

/// What every path of the service begins with.
const KV: &str = "/etcdserverpb.KV/";

/// Answers calls of KV, and leaves the others to the router.
#[derive(Debug, Clone)]
pub(crate) struct Direct {
    pub(crate) kv: KvServer<Api>,
    pub(crate) router: Routes,
}

impl Service<Request<Body>> for Direct {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        <KvServer<Api> as Service<Request<Body>>>::Future,
        <Routes as Service<Request<Body>>>::Future,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // KV itself is always ready.
        Service::<Request<Body>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with(KV) {
            Either::Left(self.kv.call(request))
        } else {
            Either::Right(self.router.call(request))
        }
    }
}
