//! Producers and consumers. Each value is put once, so each that comes out tells which it is.

use std::time::Duration;

use bytes::Bytes;

use crate::client::{Me, nothing};

const PATIENCE: Duration = Duration::from_secs(1);

fn shown(value: &Option<Bytes>) -> String {
    value.as_ref().map_or("nothing".to_owned(), |value| {
        String::from_utf8_lossy(value).into_owned()
    })
}

/// Puts one value after the other, with a rest after each.
async fn produce(me: &Me, put: impl AsyncFn(usize)) {
    for number in 0.. {
        if !me.works() {
            break;
        }
        put(number).await;
        me.rest(300).await;
    }
}

/// A queue.
pub(super) async fn queue(me: &Me) {
    let queue = me.synod.queue("sim/queue");
    let producer = produce(me, async |number| {
        let value = me.name(number);
        let _ = me
            .does("enqueue", &value, nothing, queue.enqueue(&value))
            .await;
    });
    let consumer = async {
        while me.works() {
            let _ = me
                .does("dequeue", "", shown, queue.dequeue_timeout(PATIENCE))
                .await;
            me.rest(250).await;
        }
        while let Ok(Some(_)) = me.does("dequeue", "", shown, queue.try_dequeue()).await {}
    };
    tokio::join!(producer, consumer);
}

/// A priority queue; a value begins with its priority.
pub(super) async fn priority_queue(me: &Me) {
    let queue = me.synod.priority_queue("sim/queue");
    let producer = produce(me, async |number| {
        let priority = me.world.below(4) as u16;
        let value = format!("{priority}-{}", me.name(number));
        let _ = me
            .does("enqueue", &value, nothing, queue.enqueue(&value, priority))
            .await;
    });
    let consumer = async {
        while me.works() {
            let _ = me
                .does("dequeue", "", shown, queue.dequeue_timeout(PATIENCE))
                .await;
            me.rest(250).await;
        }
        while let Ok(Some(_)) = me.does("dequeue", "", shown, queue.try_dequeue()).await {}
    };
    tokio::join!(producer, consumer);
}

/// A queue whose items are taken, and acknowledged or given back.
pub(super) async fn take(me: &Me) {
    let queue = me.synod.queue("sim/queue");
    let producer = produce(me, async |number| {
        let value = me.name(number);
        let _ = me
            .does("enqueue", &value, nothing, queue.enqueue(&value))
            .await;
    });
    let consumer = async {
        while me.works() {
            let show = |taken: &Option<synod::Delivery>| {
                shown(&taken.as_ref().map(|delivery| delivery.value().clone()))
            };
            let taken = me
                .does("take", "", show, queue.take_timeout(PATIENCE))
                .await;
            let Ok(Some(delivery)) = taken else { continue };
            let value = String::from_utf8_lossy(delivery.value()).into_owned();
            me.rest(300).await;
            match me.world.below(8) {
                0 => {
                    let _ = me.does("nack", value, nothing, delivery.nack()).await;
                }
                1 => drop(delivery),
                _ => {
                    let _ = me.does("ack", value, nothing, delivery.ack()).await;
                }
            }
        }
    };
    tokio::join!(producer, consumer);
}
