//! [`Shared`]: the one session that a client's primitives share unless they are given another.

use tokio::sync::Mutex;

use super::{Session, SessionBuilder};
use crate::Result;

/// A session that begins when it is first needed; after its end the next user begins another.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Option<Session>>);

impl Shared {
    /// The session, which lives at this moment.
    pub(crate) async fn get(&self, builder: SessionBuilder) -> Result<Session> {
        let mut shared = self.0.lock().await;
        if let Some(session) = shared.as_ref().filter(|session| session.is_alive()) {
            return Ok(session.clone());
        }
        let session = builder.build().await?;
        *shared = Some(session.clone());
        Ok(session)
    }

    /// Ends the session, if there is one.
    pub(crate) async fn close(&self) -> Result<()> {
        match self.0.lock().await.take() {
            Some(session) => session.close().await,
            None => Ok(()),
        }
    }
}
