//! `synod lock`: a mutex is held while a command runs, or until Ctrl-C.

use super::Context;
use super::held::{self, Hold, LOCK_VARIABLES, Wait};
use super::work::with_client;
use crate::args::{Global, LockArgs};
use crate::failure::Result;

pub(super) async fn run(global: &Global, args: LockArgs, mut context: Context) -> Result<()> {
    let name = held::name_of(global, &args.object, "lock")?;
    let hold = Hold {
        what: format!("the lock {name}"),
        wait: Wait::of(global, &args.hold)?,
        args: &args.hold,
        variables: LOCK_VARIABLES,
        value: None,
        permits: None,
    };
    with_client(global, None, &mut context, async |client, _, context| {
        let session = held::session(client, args.hold.ttl, &mut context.signals).await?;
        let mutex = client.mutex(name).with_session(&session);
        let acquire = async {
            match hold.wait {
                Wait::Try => mutex.try_lock().await,
                Wait::AtMost(limit) => mutex.lock_timeout(limit).await,
                Wait::ForEver => mutex.lock().await.map(Some),
            }
        };
        let holders = async {
            let holder = mutex.holder().await.ok().flatten();
            holder.iter().map(held::in_words).collect()
        };
        hold.run(session.clone(), acquire, holders, context).await
    })
    .await
}
