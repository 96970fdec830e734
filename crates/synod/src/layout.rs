//! Where Synod's own keys lie: everything that has no counterpart in etcd's Go recipes.
//!
//! # Key layout
//!
//! `SYSTEM_PREFIX KIND / NAME / ...`, such as `__synod/semaphore/db%2Fpool/...`. `KIND` is a word of
//! the primitive, `NAME` the object's name with `%` and `/` written as `%25` and `%2F`, so that one
//! name never lies below another. No key lies under a name that a user chose: consumers with etcd's Go
//! recipes would take it for an item.

use synod_store::Key;

/// The prefix of an object's own keys; it ends in `/`.
pub(crate) fn own(system_prefix: &str, kind: &str, name: &Key) -> Key {
    let mut prefix = Vec::with_capacity(system_prefix.len() + kind.len() + name.len() + 2);
    prefix.extend_from_slice(system_prefix.as_bytes());
    prefix.extend_from_slice(kind.as_bytes());
    prefix.push(b'/');
    for &byte in name.as_bytes() {
        match byte {
            b'%' => prefix.extend_from_slice(b"%25"),
            b'/' => prefix.extend_from_slice(b"%2F"),
            byte => prefix.push(byte),
        }
    }
    prefix.push(b'/');
    Key::from(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apart() {
        let own = |name: &str| own("__synod/", "semaphore", &Key::from(name)).to_string();
        assert_eq!(own("a"), "__synod/semaphore/a/");
        assert_eq!(own("a/b"), "__synod/semaphore/a%2Fb/");
        assert_eq!(own("a%2Fb"), "__synod/semaphore/a%252Fb/");
    }
}
