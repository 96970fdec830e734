//! Priority queue: the lowest number comes out first.
