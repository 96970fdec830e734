//! Connections made by other means than TCP: the seam where a simulated network is put in.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use synod_store::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::Service;
use tonic::transport::Uri;

/// A connection in both directions.
#[doc(hidden)]
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Connect = dyn Fn(String) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> + Send + Sync;

/// Makes connections to `HOST:PORT`.
#[doc(hidden)]
#[derive(Clone)]
pub struct Connector(Arc<Connect>);

impl Connector {
    /// A connector that calls this function for every connection.
    pub fn new(
        connect: impl Fn(String) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>
        + Send
        + Sync
        + 'static,
    ) -> Connector {
        Connector(Arc::new(connect))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Connection>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let authority = uri
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let connection = (self.0)(authority);
        Box::pin(async move { Ok(TokioIo::new(connection.await?)) })
    }
}
