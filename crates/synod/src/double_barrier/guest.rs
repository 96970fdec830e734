//! [`Guest`]: a participant in a round of either layout.

use std::sync::Arc;

use synod_store::Key;
use tokio::time::Instant;

use super::Stay;
use super::go::{self, Hall};
use super::house::House;
pub(super) use super::member::Hint;
use super::member::{self, Member};
use crate::{Client, Result, Session};

/// What all participants of one double barrier in one client share.
#[derive(Debug, Clone)]
pub(super) enum Building {
    Native(Arc<House>),
    Go(Arc<Hall>),
}

/// A participant in a round. Dropping it gives its place up in the background.
#[derive(Debug)]
pub(super) enum Guest {
    Native(Member),
    Go(go::Member),
}

impl Building {
    pub(super) fn of(client: &Client, name: &Key, go: bool) -> Building {
        if go {
            Building::Go(Hall::of(client, name))
        } else {
            Building::Native(House::of(client, name))
        }
    }

    /// Takes a place in the round that gathers. `stay` is dropped when it is given up.
    pub(super) async fn join(
        &self,
        client: &Client,
        session: Session,
        count: u32,
        hint: Option<Hint>,
        stay: Stay,
    ) -> Result<Guest> {
        match self {
            Building::Native(house) => {
                let member = member::join(client, house, session, count, hint, stay).await?;
                Ok(Guest::Native(member))
            }
            Building::Go(hall) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let member = go::join(client, hall, session, count, stay).await?;
                Ok(Guest::Go(member))
            }
        }
    }
}

impl Guest {
    /// The number of the round, where rounds are numbered.
    pub(super) fn round(&self) -> Option<u64> {
        match self {
            Guest::Native(member) => Some(member.number),
            Guest::Go(_) => None,
        }
    }

    pub(super) fn session(&self) -> &Session {
        match self {
            Guest::Native(member) => member.session(),
            Guest::Go(member) => member.session(),
        }
    }

    /// Waits until the round is full.
    pub(super) async fn wait_full(&mut self) -> Result<()> {
        match self {
            Guest::Native(member) => member.wait_full().await,
            Guest::Go(member) => member.wait_full().await,
        }
    }

    /// Bows out, unless the round is full: then false.
    pub(super) async fn withdraw(&mut self) -> Result<bool> {
        match self {
            Guest::Native(member) => member.withdraw().await,
            Guest::Go(member) => member.withdraw().await,
        }
    }

    /// Leaves, and waits for the others until the deadline; false when some were inside then.
    pub(super) async fn leave(
        self,
        client: &Client,
        deadline: Option<Instant>,
        remember: impl FnOnce(Hint),
    ) -> Result<bool> {
        match self {
            Guest::Native(member) => {
                let (rest, hint) = member.leave().await?;
                remember(hint);
                let over = rest.wait_over(client);
                match deadline {
                    None => over.await.map(|()| true),
                    Some(deadline) => match tokio::time::timeout_at(deadline, over).await {
                        Ok(over) => over.map(|()| true),
                        Err(_) => Ok(false),
                    },
                }
            }
            Guest::Go(member) => member.leave(deadline).await,
        }
    }
}
