//! One watch of a semaphore for all who wait for it in this process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};

use synod_store::{RangeRequest, Txn, TxnOpResponse, WatchRequest};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::Shared;
use super::view::{Spot, Standing, View};
use crate::slot::Slot;
use crate::span;
use crate::watch::{Lookout, Nudge};
use crate::{Error, Result, retry};

/// What is known of a ticket that waited.
pub(super) type Verdict = Result<Standing>;

/// The watch that stands, if anybody waits.
#[derive(Debug, Default)]
pub(super) struct Watch(Slot<Weak<Watching>>);

impl Watch {
    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let watching = self.0.lock().upgrade();
        watching.map_or(0, |watching| {
            let tickets = watching.waiters.tickets.lock();
            tickets.as_ref().map_or(0, BTreeMap::len)
        })
    }
}

/// A watch, as long as somebody has it.
#[derive(Debug)]
struct Watching {
    waiters: Arc<Waiters>,
    task: AbortHandle,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Waiters {
    /// `None` once the watch has failed.
    tickets: Slot<Option<BTreeMap<Spot, oneshot::Sender<Verdict>>>>,
    /// Somebody has come, who may have been seen already.
    come: Notify,
}

/// One who waits. Dropping it ends the wait, and the watch with the last of them.
#[derive(Debug)]
struct Waiter {
    watching: Arc<Watching>,
    spot: Spot,
    verdict: oneshot::Receiver<Verdict>,
    /// Whether the watch was begun for this one.
    began: bool,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(tickets) = self.watching.waiters.tickets.lock().as_mut() {
            tickets.remove(&self.spot);
        }
    }
}

/// Waits until the ticket does not wait any more.
pub(super) async fn wait(shared: &Arc<Shared>, spot: Spot) -> Verdict {
    loop {
        let mut waiter = register(shared, spot.clone())?;
        match (&mut waiter.verdict).await {
            Ok(verdict) => return verdict,
            // The watch has ended with the runtime that it ran in. If that was another, one in this
            // runtime follows it.
            Err(_) if waiter.began => return Err(Error::NoRuntime),
            Err(_) => {}
        }
    }
}

fn register(shared: &Arc<Shared>, spot: Spot) -> Result<Waiter> {
    let runtime = crate::runtime()?;
    let mut standing = shared.watch.0.lock();
    let (sender, verdict) = oneshot::channel();
    if let Some(watching) = standing.upgrade()
        && let Some(tickets) = watching.waiters.tickets.lock().as_mut()
    {
        tickets.insert(spot.clone(), sender);
        watching.waiters.come.notify_one();
        return Ok(Waiter {
            watching: Arc::clone(&watching),
            spot,
            verdict,
            began: false,
        });
    }
    let waiters = Arc::new(Waiters {
        tickets: Slot::new(Some(BTreeMap::from([(spot.clone(), sender)]))),
        come: Notify::new(),
    });
    let tellers = Tellers(Arc::clone(&waiters));
    let task = runtime.spawn(span::task(
        "semaphore.watch",
        watch(Arc::clone(shared), tellers),
    ));
    let watching = Arc::new(Watching {
        waiters,
        task: task.abort_handle(),
    });
    *standing = Arc::downgrade(&watching);
    Ok(Waiter {
        watching,
        spot,
        verdict,
        began: true,
    })
}

/// The task's part in a watch. When the task ends, whatever the cause, nobody is left waiting for it.
struct Tellers(Arc<Waiters>);

impl Drop for Tellers {
    fn drop(&mut self) {
        // Those who still wait see their channels end.
        let waiting = self.0.tickets.lock().take();
        drop(waiting);
    }
}

async fn watch(shared: Arc<Shared>, tellers: Tellers) {
    let waiters = &tellers.0;
    let Err(error) = follow(&shared, waiters).await;
    let error = shared.client.about_own_keys(error);
    let waiting = waiters.tickets.lock().take();
    for (_, verdict) in waiting.into_iter().flatten() {
        // Who has left does not hear it.
        let _ = verdict.send(Err(error.clone()));
    }
}

async fn follow(shared: &Shared, waiters: &Waiters) -> Result<Infallible> {
    let request = WatchRequest::new(shared.keys.all());
    let open = || Lookout::open(shared.client.shared_store(), request.clone());
    let mut lookout = retry::insist(shared.client.timeout(), open).await?;
    loop {
        let mut view = shared.read().await?;
        waiters.judge(&view);
        loop {
            let nudge = tokio::select! {
                nudge = lookout.next(view.revision()) => nudge,
                () = waiters.come.notified() => {
                    waiters.judge(&view);
                    continue;
                }
            };
            match nudge {
                Ok(Nudge::Events(events)) => {
                    events.into_iter().for_each(|event| view.apply(event));
                    waiters.judge(&view);
                }
                Ok(Nudge::Read) => break,
                // The read that follows bears the trouble, or tells of it.
                Err(error) if error.is_transient() => break,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Waiters {
    /// Tells those who do not wait any more.
    fn judge(&self, view: &View) {
        let mut tickets = self.tickets.lock();
        let Some(waiting) = tickets.as_mut() else {
            return;
        };
        let standings = view.standings();
        let told: Vec<(Spot, Standing)> = waiting
            .keys()
            .map(|spot| (spot.clone(), standings.of(spot)))
            .filter(|(_, standing)| *standing != Standing::Waiting)
            .collect();
        for (spot, standing) in told {
            if let Some(verdict) = waiting.remove(&spot) {
                // Who has left does not hear it.
                let _ = verdict.send(Ok(standing));
            }
        }
    }
}

impl Shared {
    /// Reads the semaphore.
    pub(super) async fn read(&self) -> Result<View> {
        let txn = Txn::new().and_then([
            RangeRequest::new(self.keys.total().clone()),
            self.keys.read_line(),
        ]);
        let store = self.client.store();
        let read = || store.txn(txn.clone());
        let response = retry::read(self.client.timeout(), read).await;
        let response = response.map_err(|error| self.client.about_own_keys(error))?;
        let revision = response.header.revision;
        let mut ranges = response
            .responses
            .into_iter()
            .map(TxnOpResponse::into_range);
        let mut next = || {
            ranges
                .next()
                .flatten()
                .map(|range| range.kvs)
                .unwrap_or_default()
        };
        let total = next().into_iter().next().map(|kv| kv.value);
        Ok(View::new(&self.keys, revision, total, next()))
    }
}
