//! What the Lock and Election services share: the library's line of waiters, with the keys that
//! etcd's services use, and errors as they give them.

use std::borrow::Borrow;
use std::time::Duration;

use bytes::Bytes;
use synod::__mechanism::waiters::{Join, Neighbours, Place, Suffix};
use synod_store::{Error, ErrorKind, Header, Key, LeaseGrantRequest, LeaseId, Store};
use synod_wire::convert::error::to_status;
use tonic::Status;

use crate::auth::Access;
use crate::state::{Api, stopped};

/// The time to live of the lease that is made for a caller who brings none. Nothing renews it.
const LEASE_TTL: Duration = Duration::from_secs(60);

/// How long a store may leave a waiter without an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The line of all who want `name`.
pub(crate) fn prefix(name: &[u8]) -> Key {
    Key::from(name).join("/")
}

/// The keys of that line, as a range of etcd's.
fn line_range(name: &[u8]) -> (Bytes, Bytes) {
    // The prefix ends in a slash, and what follows it in order is `0`.
    let with = |last: &[u8]| Bytes::from([name, last].concat());
    (with(b"/"), with(b"0"))
}

/// A failure as etcd's services pass it on: its text, and no code that says what kind it is.
pub(crate) fn unknown(error: impl Borrow<Error>) -> Status {
    let error = error.borrow();
    let status = to_status(error);
    if error.kind() == ErrorKind::Closed {
        return status;
    }
    Status::unknown(status.message())
}

/// The same for a refusal.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
pub(crate) fn without_code(refusal: Status) -> Status {
    Status::unknown(refusal.message())
}

impl Api {
    /// Refuses who may not stand in the line of `name`: it reads the whole line, and writes the key of its lease. Who
    /// brings no lease cannot know its key, so it must be allowed to write all of the line. As with a put, the lease
    /// must be one's own.
    pub(crate) async fn check_line(
        &self,
        access: &Access,
        name: &[u8],
        lease: i64,
    ) -> Result<(), Status> {
        let (start, end) = line_range(name);
        let check = || {
            access.read(&start, &end)?;
            match LeaseId::new(lease) {
                Some(lease) => {
                    let key = prefix(name).join(lease.to_string());
                    access.write(&key.into_bytes(), &Bytes::new())
                }
                None => access.write(&start, &end),
            }
        };
        check().map_err(without_code)?;
        let checked = self.check_lease(access, lease).await;
        checked.map_err(without_code)
    }

    /// Refuses who may not read the line of `name`.
    pub(crate) fn check_reader(&self, access: &Access, name: &[u8]) -> Result<(), Status> {
        let (start, end) = line_range(name);
        access.read(&start, &end).map_err(without_code)
    }

    /// The caller's lease, or a new one.
    pub(crate) async fn lease_or_new(&self, lease: i64) -> Result<LeaseId, Status> {
        match LeaseId::new(lease) {
            Some(lease) => Ok(lease),
            None => {
                let request = LeaseGrantRequest::new(LEASE_TTL);
                let granted = self.store().lease_grant(request).await.map_err(unknown)?;
                Ok(granted.id)
            }
        }
    }

    /// Joins the line of `name` with a key that is named after the lease.
    pub(crate) async fn join(
        &self,
        name: &[u8],
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Place, Status> {
        let join = Join {
            prefix: prefix(name),
            suffix: lease.to_string().into(),
            sharing: Suffix::Shared,
            value,
            lease,
            neighbours: Neighbours::All,
            patience: PATIENCE,
        };
        let joined = self.state.lines.join(join).await;
        joined.map_err(|error| failed(error, "the lease has ended"))
    }

    /// Waits for the head of the line. `lost` is what to say if the caller's own key goes away.
    pub(crate) async fn wait(&self, place: &mut Place, lost: &str) -> Result<Header, Status> {
        tokio::select! {
            header = place.wait(std::future::pending()) => {
                header.map_err(|error| failed(error, lost))
            }
            () = self.stop.cancelled() => Err(stopped()),
        }
    }
}

fn failed(error: synod::Error, lost: &str) -> Status {
    match error {
        synod::Error::SessionLost => Status::unknown(lost),
        synod::Error::Store(error) => unknown(error),
        other => Status::unknown(format!("synod: {other}")),
    }
}
