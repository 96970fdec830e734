//! What bounds a row whose goal is not reached, as far as it is known: the one thing on the page that
//! is said and not computed. It holds no figure.

/// Rows whose names begin so, and what bounds them; the first that fits.
const BOUNDS: &[(&str, &str)] = &[
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
        "barrier",
        "an event passes the stream's task, the client's view and the waiter's task; the floor has one of \
         them",
    ),
    (
        "lock-8",
        "three requests a cycle, to leave, to look and to join again, where the floor joins its own two \
         writes in one; the processors run out first, and each request wakes both sides",
    ),
    (
        "election-8",
        "three requests a cycle, to resign, to look and to campaign again; the processors run out first",
    ),
    (
        "stm-",
        "not all tasks are back when a group takes off, and first reads of other keys cost a round trip",
    ),
    (
        "served-",
        "the processor time of gRPC on both sides, and two hand-overs between threads a write",
    ),
];

/// What bounds a row.
pub(super) fn bound(row: &str) -> &'static str {
    let found = BOUNDS.iter().find(|(name, _)| row.starts_with(name));
    found.map_or("not known yet", |(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_about_a_row_and_says_no_figure() {
        let rows = super::super::rows::rows();
        for (name, why) in BOUNDS {
            assert!(rows.iter().any(|row| row.name.starts_with(name)), "{name}");
            assert!(!why.is_empty(), "{name}");
            assert_eq!(bound(name), *why, "one before it hides {name}");
        }
        assert_eq!(bound("no such row"), "not known yet");
    }
}
