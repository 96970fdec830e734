//! The seeds of the fuzz target `wire`, and random changes of them.

mod messages;
#[cfg(test)]
#[path = "../../../../fuzz/smoke.rs"]
mod smoke;

#[test]
fn messages_of_arbitrary_bytes() {
    smoke::smoke("wire", 5_000, |bytes, _| messages::read(bytes));
}
