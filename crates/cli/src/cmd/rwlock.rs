//! `synod rwlock`: a readers-writer lock is held while a command runs, or until Ctrl-C.

use synod::rwlock::Holders;

use super::Context;
use super::held::{self, Hold, LOCK_VARIABLES, Wait};
use super::work::with_client;
use crate::args::{Global, RwLockArgs};
use crate::failure::Result;

/// How many of the readers are named when they are in the way.
const NAMED: usize = 5;

pub(super) async fn run(global: &Global, args: RwLockArgs, mut context: Context) -> Result<()> {
    let name = held::name_of(global, &args.object, "rwlock")?;
    let side = if args.write { "write" } else { "read" };
    let hold = Hold {
        what: format!("the {side} lock {name}"),
        wait: Wait::of(global, &args.hold)?,
        args: &args.hold,
        variables: LOCK_VARIABLES,
        value: None,
        permits: None,
    };
    with_client(global, None, &mut context, async |client, _, context| {
        let session = held::session(client, args.hold.ttl, &mut context.signals).await?;
        let lock = client.rwlock(name).with_session(&session);
        let holders = async {
            match lock.holders().await {
                Ok(Holders::Writer(holder)) => vec![held::in_words(&holder)],
                Ok(Holders::Readers(readers)) => {
                    readers.iter().take(NAMED).map(held::in_words).collect()
                }
                Ok(_) | Err(_) => Vec::new(),
            }
        };
        let session = session.clone();
        if args.write {
            let acquire = async {
                match hold.wait {
                    Wait::Try => lock.try_write().await,
                    Wait::AtMost(limit) => lock.write_timeout(limit).await,
                    Wait::ForEver => lock.write().await.map(Some),
                }
            };
            hold.run(session, acquire, holders, context).await
        } else {
            let acquire = async {
                match hold.wait {
                    Wait::Try => lock.try_read().await,
                    Wait::AtMost(limit) => lock.read_timeout(limit).await,
                    Wait::ForEver => lock.read().await.map(Some),
                }
            };
            hold.run(session, acquire, holders, context).await
        }
    })
    .await
}
