//! Histories that are wrong on purpose: each checker must object to what it is there for.
