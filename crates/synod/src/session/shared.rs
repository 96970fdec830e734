//! [`Shared`]: the one session that a client's primitives share unless they are given another.

use tokio::sync::Mutex;

use super::{Session, SessionBuilder};
use crate::{Error, Result};

/// A session that begins when it is first needed; after its end the next user begins another.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Option<Session>>);

impl Shared {
    /// The session, which lives at this moment.
    pub(crate) async fn get(&self, builder: SessionBuilder) -> Result<Session> {
        // Not one after the other, each for as long as the client waits, while the store does not answer.
        let after = builder.timeout();
        let locked = tokio::time::timeout(after, self.0.lock()).await;
        let mut shared = locked.map_err(|_| Error::Timeout { after })?;
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
