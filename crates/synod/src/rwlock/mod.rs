//! RwLock: one writer, or many readers.
