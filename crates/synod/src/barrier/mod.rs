//! Barrier: processes wait until it is released.
