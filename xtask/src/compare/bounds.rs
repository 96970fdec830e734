//! What bounds a row whose goal is not reached, as far as it is known: the one thing on the page that
//! is said and not computed. It holds no figure.

/// Rows whose names begin so, and what bounds them; the first that fits.
const BOUNDS: &[(&str, &str)] = &[
    (
        "queue-drain",
        "one Txn an item, as the floor's; beside it each claim writes a lane",
    ),
    (
        "queue-transfer-own",
        "a claim beside other clients carries many alternatives in one Txn; the server takes most of the \
         processors' time, for such messages",
    ),
    (
        "queue-transfer-shared",
        "each caller has one item on its way, so a Txn holds no more than there are callers; the floor fills \
         its own whatever the callers, and loses most of its lead with Txns as small as these",
    ),
    (
        "queue-batch",
        "each Txn compares and writes a lane beside its items",
    ),
    (
        "queue-idle",
        "two commits one after the other, the producer's and the consumer's, while the processors have nothing else \
         to do: the floor is hardly faster; Go waits for a tick of the server, whatever the commits take",
    ),
    (
        "priority-fill",
        "each Txn writes and compares its priority's base beside the item, as Go's producers expect of it; the floor \
         writes the item alone",
    ),
    (
        "barrier",
        "an event passes the stream's task, the client's view and the waiter's task, where the floor has two of \
         them, and the release is a Txn with a lane, where the floor's is a delete",
    ),
    (
        "double-barrier",
        "the server has more than half of the processors' time, the participants a quarter; a write here is a Txn \
         that compares all places, where the floor's is a put",
    ),
    (
        "lock-8",
        "three requests a cycle, to leave, to look and to join again, where the floor joins its own two writes in \
         one; the server has half of the processors' time for them, the contenders a quarter",
    ),
    (
        "election-8",
        "three requests a cycle, to resign, to look and to campaign again",
    ),
    (
        "stm-processes",
        "losers: the keys of a transfer are those of most others, and its read and its commit are two round trips in \
         which others commit; wider pauses lose less and are hardly faster, as then nobody tries",
    ),
    (
        "stm-",
        "one group is on its way at a time, of no more transfers than there are tasks; the server has half of the \
         processors' time for it, as each transfer of other keys is two more puts",
    ),
    (
        "served-1",
        "half of the time the processors have nothing to do: the sync, and two hand-overs between threads a write, are \
         as long as etcd's",
    ),
    (
        "served-64",
        "the processor time of gRPC on both sides, two thirds of all; the engine has an eighth",
    ),
];

/// The same on several nodes, where it differs.
const ON_SEVERAL: &[(&str, &str)] = &[
    (
        "queue-drain",
        "the round trip to three nodes: Go is slowed by the depth, not by the nodes, so that the floor itself misses \
         this goal, or just reaches it; clients spread over the members, and those that do not lead pass each Txn \
         on, where the floor is connected to the leader",
    ),
    (
        "queue-idle",
        "two commits on three nodes, one after the other: the floor itself misses this goal; Go waits for a tick of \
         the server, whatever the commits take",
    ),
    (
        "lock-8",
        "two commits on three nodes a cycle, and a look; Go waits for a tick of the server, whatever they take: \
         the floor itself misses this goal",
    ),
    (
        "election-8",
        "three requests a cycle, of which two are commits on three nodes",
    ),
    (
        "barrier",
        "clients spread over the members: the release is passed on to the leader, and members that do not lead tell \
         their waiters a message later; the floor is connected to the leader",
    ),
    (
        "double-barrier",
        "clients spread over the members: what a member that does not lead is asked is passed on, and what it tells \
         it knows a message later; the floor is connected to the leader",
    ),
    (
        "priority-fill",
        "each Txn writes and compares its priority's base beside the item, as Go's producers expect of it, and \
         members that do not lead pass it on; the floor writes the item alone, at the leader",
    ),
];

/// What bounds a row on so many nodes.
pub(super) fn bound(row: &str, nodes: usize) -> &'static str {
    let several = ON_SEVERAL.iter().filter(|_| nodes > 1);
    let mut all = several.chain(BOUNDS);
    let found = all.find(|(name, _)| row.starts_with(name));
    found.map_or("not known yet", |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_about_a_row_and_says_no_figure() {
        let rows = super::super::rows::rows();
        for (table, nodes) in [(BOUNDS, 1), (ON_SEVERAL, 3)] {
            for (name, why) in table {
                assert!(rows.iter().any(|row| row.name.starts_with(name)), "{name}");
                assert!(!why.is_empty(), "{name}");
                assert_eq!(bound(name, nodes), *why, "one before it hides {name}");
            }
        }
        assert_eq!(bound("no such row", 1), "not known yet");
    }
}
