#![doc = include_str!("../../docs/election.md")]
//!
//! # Key layout
//!
//! ```text
//! key                 value         lease        written by     deleted by
//! NAME/LEASE-NUMBER   the proposal  the session  the candidate  the candidate, or the lease's end
//! ```
//!
//! `LEASE` is the session's lease in hexadecimal, `NUMBER` one that no other key of the process has, so
//! that two campaigns of one session are two candidates. `/` is appended to the name as it is.
//!
//! # Protocol
//!
//! The candidates are the keys directly under `NAME/`; the one with the lowest create revision leads.
//!
//! 1. *Campaign*: `If create(key)=0 Then put(key, proposal, lease), range(NAME/)`. `c` is the key's
//!    create revision. Nobody before it: elected.
//! 2. *Wait* for the end of the nearest before it, watching that key, and the own one after 100 ms; then look again:
//!    `get(key), range(NAME/) created before c`. Nobody before, and the own key in place: elected. So
//!    nobody is told to lead whose lease has died. *Try*: `If create(key)=0 and create(NAME/)=0 Then put`.
//! 3. *Proclaim*: `If mod(key)=m Then put(key, proposal), keeping the lease, Else get(key)`, where `m` is
//!    the last revision at which the key is known to have been put. On the Else-branch: a key created at
//!    another revision than `c`, or none: not the leader any more. Else `m` is what was read, and the
//!    Txn is sent anew: an earlier proclamation had arrived although its answer was lost. No old copy
//!    can overwrite a newer proclamation, as each one changes `m`.
//! 4. *Resign*: `If create(key)=c Then delete(key)`.
//! 5. *Observe*: a watch of `NAME/` at now; when it stands, one read; from there events alone, each
//!    revision whole, on a local view ordered by create revision. After each revision the view's
//!    first key is compared with what was told last. Compaction, a closed stream or half a minute of
//!    silence lead to a read, which replaces the view.
//!
//! # Round trips
//!
//! | call | round trips |
//! | --- | --- |
//! | `campaign`, nobody before | 1 |
//! | `campaign`, behind others | 1 to join, 2 to watch the one before unless that watch is still there, 1 when it is our turn; 2 more after 100 ms, and for each that gives up out of turn just before |
//! | `try_campaign` | 1 |
//! | `proclaim`, `resign`, `leader`, `check` | 1 |
//! | `observe` | 2 to begin, then none but a read every half minute without events |
//!
//! A client's first campaign makes the client's session, which takes one more.

mod leadership;
mod observe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{
    Key, KeyRange, KeyValue, LeaseId, RangeRequest, Revision, SortOrder, SortTarget,
};

use crate::span::traced;
use crate::waiters::{Neighbours, Wanted};
use crate::{Client, Result, Session, retry};

pub use leadership::Leadership;
pub use observe::Leaders;

impl Client {
    /// The election of this name. Asks nobody.
    ///
    /// Objects of different kinds need [different names](crate::guide#names).
    #[must_use]
    pub fn election(&self, name: impl Into<Key>) -> Election {
        Election {
            client: self.clone(),
            name: name.into(),
            session: None,
        }
    }
}

/// One leader among any number of candidates. Handles are cheap to clone.
///
/// See the [module](self) for what it promises.
#[derive(Clone)]
pub struct Election {
    client: Client,
    name: Key,
    session: Option<Session>,
}

/// Who leads, as the store says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// The leader's key.
    pub key: Key,
    /// What it has proclaimed last.
    pub value: Bytes,
    /// Its key's create revision: who is elected later has a higher one. The leader's fencing token.
    pub revision: Revision,
    /// The lease with which its leadership ends, if there is one.
    pub lease: Option<LeaseId>,
}

impl From<KeyValue> for Leader {
    fn from(kv: KeyValue) -> Leader {
        Leader {
            key: kv.key,
            value: kv.value,
            revision: kv.create_revision,
            lease: kv.lease,
        }
    }
}

/// What [`Election::observe`] sees.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LeaderEvent {
    /// This one leads: a new leader, or a new proclamation of the same one.
    Leader(Leader),
    /// Nobody leads, and nobody stands for it.
    NoLeader,
    /// Who leads is not known, for this reason: the store could not be reached for the client's timeout.
    /// The stream goes on, and tells who leads as soon as it knows.
    Lost(crate::Error),
}

impl Election {
    /// The same election with a session of the caller's own: candidates that this handle makes go
    /// with it. Without it they share the client's.
    #[must_use]
    pub fn with_session(mut self, session: &Session) -> Election {
        self.session = Some(session.clone());
        self
    }

    /// The election's name.
    #[must_use]
    pub fn name(&self) -> &Key {
        &self.name
    }

    /// The client that the election belongs to.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn prefix(&self) -> Key {
        self.name.join("/")
    }

    /// Stands for election with this proposal, and waits until elected.
    ///
    /// Every campaign is a candidate of its own, also those of one session; they are elected in the
    /// order in which they came.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the candidate is withdrawn in the background; if the process dies before
    /// that, with the lease.
    ///
    /// # Errors
    ///
    /// [`Error::SessionLost`](crate::Error::SessionLost) as soon as the session or the candidate's key is gone: whoever
    /// returns from here was the leader at a revision when its lease lived. Else what the store
    /// answered, when it could not be reached for the client's timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let election = synod::Client::connect("memory:").await?.election("primary");
    /// let leadership = election.campaign("10.0.0.7:5432").await?;
    /// assert_eq!(election.leader().await?.unwrap().value, "10.0.0.7:5432");
    /// leadership.resign().await?;
    /// assert_eq!(election.leader().await?, None);
    /// # Ok(()) }) }
    /// ```
    pub fn campaign<V: AsRef<[u8]>>(
        &self,
        value: V,
    ) -> impl Future<Output = Result<Leadership>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!("synod.election.campaign", object = self.name, async move {
            let hold = self.wanted(&value)?.take().await?;
            Ok(Leadership::elected(hold, value))
        })
    }

    /// Becomes the leader if there is none; else returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Election::campaign`].
    ///
    /// # Errors
    ///
    /// As [`Election::campaign`].
    pub fn try_campaign<V: AsRef<[u8]>>(
        &self,
        value: V,
    ) -> impl Future<Output = Result<Option<Leadership>>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!(
            "synod.election.try_campaign",
            object = self.name,
            async move {
                let taken = self.wanted(&value)?.try_take().await?;
                Ok(taken.map(|hold| Leadership::elected(hold, value)))
            }
        )
    }

    /// Stands for election, and waits at most `timeout`; then the candidate is withdrawn, and this
    /// returns `None`.
    ///
    /// # Cancel safety
    ///
    /// As [`Election::campaign`].
    ///
    /// # Errors
    ///
    /// As [`Election::campaign`].
    pub fn campaign_timeout<V: AsRef<[u8]>>(
        &self,
        value: V,
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<Leadership>>> + Send + use<'_, V> {
        let value = Bytes::copy_from_slice(value.as_ref());
        traced!("synod.election.campaign", object = self.name, async move {
            let taken = self.wanted(&value)?.take_within(timeout).await?;
            Ok(taken.map(|hold| Leadership::elected(hold, value)))
        })
    }

    fn wanted(&self, value: &Bytes) -> Result<Wanted> {
        self.client.check_name(&self.name)?;
        Ok(Wanted {
            client: self.client.clone(),
            session: self.session.clone(),
            prefix: self.prefix(),
            neighbours: Neighbours::Direct,
            value: value.clone(),
            // Who campaigns is to be seen.
            gate: None,
        })
    }

    /// Who leads; `None` when nobody does. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered, when it could not be reached for the client's timeout.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        traced!("synod.election.leader", object = self.name, async move {
            self.client.check_name(&self.name)?;
            let prefix = self.prefix();
            let store = self.client.store();
            let request = RangeRequest::new(KeyRange::prefix(prefix.clone()))
                .sorted_by(SortTarget::CreateRevision, SortOrder::Ascending);
            // The oldest key is nearly always a candidate; if it lies below another name, all are read.
            for limit in [1, 0] {
                let request = request.clone().with_limit(limit);
                let read = || store.range(request.clone());
                let response = retry::read(self.client.timeout(), read).await?;
                let mut found = response.kvs.into_iter();
                if let Some(leader) = found.find(|kv| is_candidate(&prefix, &kv.key)) {
                    return Ok(Some(leader.into()));
                }
                if !response.more {
                    break;
                }
            }
            Ok(None)
        })
        .await
    }

    /// Who leads, as it changes: first the present leader, or [`LeaderEvent::NoLeader`], then every
    /// change of leader, every proclamation of a leader, and the times without one.
    ///
    /// Never shows an older leader after a newer one. Resumes by itself after trouble; leaders
    /// that came and went in a gap (a compaction, a store that could not be reached) are left out.
    /// The stream ends only after an error, which means that the store refused it for good, as with
    /// a missing permission.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream, or a call of its `next`, leaves nothing behind; no event gets lost
    /// between two calls of `next`.
    #[must_use = "streams do nothing unless polled"]
    pub fn observe(&self) -> Leaders {
        Leaders::new(&self.client, &self.name)
    }
}

/// Whether a key under the prefix is a candidate's: keys further down belong to other names.
fn is_candidate(prefix: &Key, key: &Key) -> bool {
    key.strip_prefix(prefix.as_bytes())
        .is_some_and(|suffix| !suffix.contains(&b'/'))
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
