//! Barriers: one that a client holds while others wait, and one that all enter and leave together.

use std::time::Duration;

use crate::client::{Me, nothing};
use crate::world::CLIENTS;

const PATIENCE: Duration = Duration::from_secs(4);

/// Client 0 holds and releases, the others wait.
pub(super) async fn barrier(me: &Me) {
    let barrier = me.synod.barrier("sim/barrier");
    while me.works() {
        if me.number > 0 {
            let show = |passed: &bool| passed.to_string();
            let _ = me
                .does("wait", "", show, barrier.wait_timeout(PATIENCE))
                .await;
            me.rest(200).await;
            continue;
        }
        let held = me.does("hold", "", nothing, barrier.hold()).await;
        let hold = held.is_ok().then(|| me.hold("barrier", 0));
        me.rest(600).await;
        if let Some(hold) = hold {
            me.unhold(hold);
        }
        while me
            .does("release", "", |_| String::new(), barrier.release())
            .await
            .is_err()
        {
            me.rest(200).await;
        }
        me.rest(300).await;
    }
    if me.number == 0 {
        let _ = me.does("release", "", nothing, barrier.release()).await;
    }
}

/// All enter and leave, round after round.
pub(super) async fn double_barrier(me: &Me) {
    let barrier = me.synod.double_barrier("sim/double", CLIENTS as u32);
    while me.works() {
        let show = |entered: &bool| entered.to_string();
        let entered = me
            .does("enter", "", show, barrier.enter_timeout(PATIENCE))
            .await;
        if let Ok(true) = entered {
            me.rest(300).await;
            let _ = me
                .does("leave", "", show, barrier.leave_timeout(PATIENCE))
                .await;
        }
        me.rest(100).await;
    }
}
