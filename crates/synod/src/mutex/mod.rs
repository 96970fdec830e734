//! Mutex: one holder at a time.
