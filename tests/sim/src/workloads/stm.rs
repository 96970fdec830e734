//! Transactions that append their own name to two lists, and read them.

use bytes::Bytes;

use crate::client::Me;

/// The lists.
pub(crate) const LISTS: [&str; 2] = ["sim/list/a", "sim/list/b"];

fn text(value: Option<Bytes>) -> String {
    String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
}

/// Appends to both lists, or to one that is drawn.
pub(super) async fn stm(me: &Me) {
    let stm = me.synod.stm();
    for number in 0.. {
        if !me.works() {
            break;
        }
        let name = me.name(number);
        let both = me.world.below(2) == 0;
        let first = me.world.below(2) as usize;
        let argument = if both {
            format!("{name} 0 1")
        } else {
            format!("{name} {first}")
        };
        let run = stm.run(async |tx| {
            let lists = [text(tx.get(LISTS[0]).await?), text(tx.get(LISTS[1]).await?)];
            for (place, list) in lists.iter().enumerate() {
                if both || place == first {
                    tx.put(LISTS[place], format!("{list}{name},"));
                }
            }
            Ok(lists)
        });
        let _ = me
            .does("append", argument, |lists| lists.join(" "), run)
            .await;
        me.rest(200).await;
    }
}
