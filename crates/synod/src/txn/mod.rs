//! Txn: several operations under compares, all or none.
