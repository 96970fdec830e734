//! Election: one leader among candidates.
