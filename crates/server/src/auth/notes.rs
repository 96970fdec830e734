//! Users and roles as they are stored: one note each.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use synod_store::{Error, ErrorKind, Result};
use synod_wire::authpb::{Role, User as StoredUser, UserAddOptions};

use super::book::{Book, Hash, User};

const STANDING: &str = "auth";
const USER: &str = "auth/user/";
const ROLE: &str = "auth/role/";

/// What is neither a user nor a role.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Standing {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
}

/// Everything, by the name of its note.
fn notes(book: &Book) -> BTreeMap<String, Bytes> {
    let standing = Standing {
        enabled: book.enabled,
        revision: book.revision,
    };
    let users = book.users.iter().map(|(name, user)| {
        let no_password = user.hash.is_none();
        let hash = user.hash.as_ref().map_or("", |hash| hash.0.as_str());
        let stored = StoredUser {
            name: Bytes::copy_from_slice(name.as_bytes()),
            password: Bytes::copy_from_slice(hash.as_bytes()),
            roles: user.roles.iter().cloned().collect(),
            options: Some(UserAddOptions { no_password }),
        };
        (format!("{USER}{name}"), stored.encode_to_vec())
    });
    let roles = book.roles.iter().map(|(name, permissions)| {
        let stored = Role {
            name: Bytes::copy_from_slice(name.as_bytes()),
            key_permission: permissions.clone(),
        };
        (format!("{ROLE}{name}"), stored.encode_to_vec())
    });
    std::iter::once((STANDING.to_owned(), standing.encode_to_vec()))
        .chain(users)
        .chain(roles)
        .map(|(name, text)| (name, text.into()))
        .collect()
}

/// What has to be written to get from one to the other.
pub(super) fn changes(from: &Book, to: &Book) -> Vec<(String, Option<Bytes>)> {
    let (from, mut to) = (notes(from), notes(to));
    let mut changes = Vec::new();
    for (name, text) in from {
        match to.remove(&name) {
            Some(new) if new == text => {}
            new => changes.push((name, new)),
        }
    }
    changes.extend(to.into_iter().map(|(name, text)| (name, Some(text))));
    changes
}

/// Users and roles from the notes of a store.
pub(super) fn read(notes: &BTreeMap<String, Bytes>) -> Result<Book> {
    // As in an etcd whose users were never changed.
    let mut book = Book {
        revision: 1,
        ..Book::default()
    };
    for (name, text) in notes {
        let damaged = |error: prost::DecodeError| {
            let text = format!("the stored users and roles are damaged, at {name:?}");
            Error::new(ErrorKind::Corrupt, text).with_source(error)
        };
        if name == STANDING {
            let standing = Standing::decode(text.clone()).map_err(damaged)?;
            book.enabled = standing.enabled;
            book.revision = standing.revision.max(1);
        } else if let Some(user) = name.strip_prefix(USER) {
            let stored = StoredUser::decode(text.clone()).map_err(damaged)?;
            let no_password = stored.options.is_some_and(|options| options.no_password);
            let hash = String::from_utf8_lossy(&stored.password).into_owned();
            let hash = (!no_password).then_some(Hash(hash));
            let roles = stored.roles.into_iter().collect();
            book.users.insert(user.to_owned(), User::new(hash, roles));
        } else if let Some(role) = name.strip_prefix(ROLE) {
            let stored = Role::decode(text.clone()).map_err(damaged)?;
            book.roles.insert(role.to_owned(), stored.key_permission);
        }
    }
    Ok(book)
}

#[cfg(test)]
mod tests {
    use synod_wire::authpb::Permission;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_only_what_changed_is_written() {
        let empty = read(&BTreeMap::new()).unwrap();
        let mut book = empty.clone();
        book.add_user("a/b", Some(Hash("h".into()))).unwrap();
        book.add_user("n", None).unwrap();
        book.add_role("r").unwrap();
        book.grant_role("n", "r").unwrap();
        let permission = Permission {
            perm_type: 1,
            key: "k".into(),
            range_end: "l".into(),
        };
        book.grant_permission("r", Some(permission)).unwrap();
        let mut stored = BTreeMap::new();
        let mut write = |from: &Book, to: &Book| {
            let changes = changes(from, to);
            let count = changes.len();
            for (name, text) in changes {
                match text {
                    Some(text) => drop(stored.insert(name, text)),
                    None => drop(stored.remove(&name)),
                }
            }
            (count, read(&stored).unwrap())
        };
        let (count, found) = write(&empty, &book);
        assert_eq!(count, 3);
        assert_eq!((&found.users, &found.roles), (&book.users, &book.roles));
        let mut less = book.clone();
        less.delete_role("r").unwrap();
        less.revision = 9;
        let (count, found) = write(&book, &less);
        assert_eq!(count, 3, "the role, its user, the revision");
        assert_eq!((&found.users, &found.roles), (&less.users, &less.roles));
        assert_eq!(found.revision, 9);
    }

    #[test]
    fn damage_is_said_to_be() {
        let notes = BTreeMap::from([("auth/user/x".to_owned(), Bytes::from_static(b"\xff"))]);
        let error = read(&notes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
