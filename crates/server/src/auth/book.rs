//! Users and roles, and each way to change them, with etcd's rules. Nothing here is stored or asynchronous.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use synod_wire::authpb::Permission;
use synod_wire::authpb::permission::Type;
use tonic::Status;

use super::ranges::Ranges;
use super::refusal;

/// The name of the user and of the role that may do everything.
pub(super) const ROOT: &str = "root";

/// Whether a change was one: then the revision of users and roles moves on.
pub(super) type Edit = Result<bool, Status>;

/// All users and roles at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    pub(super) enabled: bool,
    /// As etcd counts it: 1 before the first change.
    pub(super) revision: u64,
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Vec<Permission>>,
}

/// One user.
#[derive(Debug, Default)]
pub(super) struct User {
    /// The password's hash; without one nobody can log in with a password.
    pub(super) hash: Option<Hash>,
    pub(super) roles: BTreeSet<String>,
    /// What the roles come to, once somebody asked.
    allowed: OnceLock<Arc<Allowed>>,
}

/// A password's hash, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Hash(pub(super) String);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(..)")
    }
}

/// A change of a book may change what the roles come to.
impl Clone for User {
    fn clone(&self) -> User {
        User::new(self.hash.clone(), self.roles.clone())
    }
}

impl PartialEq for User {
    fn eq(&self, other: &User) -> bool {
        self.hash == other.hash && self.roles == other.roles
    }
}

impl User {
    pub(super) fn new(hash: Option<Hash>, roles: BTreeSet<String>) -> User {
        User {
            hash,
            roles,
            allowed: OnceLock::new(),
        }
    }
}

/// What a user may do.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    pub(super) root: bool,
    pub(super) read: Ranges,
    pub(super) write: Ranges,
}

impl Book {
    /// What a user may do; `None` when there is no such user.
    pub(super) fn allowed(&self, user: &str) -> Option<Arc<Allowed>> {
        let user = self.users.get(user)?;
        let allowed = user.allowed.get_or_init(|| {
            let permissions = user.roles.iter().filter_map(|role| self.roles.get(role));
            let permissions: Vec<&Permission> = permissions.flatten().collect();
            let with = |kinds: [Type; 2]| {
                let of_kind = permissions.iter().filter(|permission| {
                    let kind = Type::try_from(permission.perm_type);
                    kind.is_ok_and(|kind| kinds.contains(&kind))
                });
                Ranges::new(of_kind.map(|permission| (&permission.key, &permission.range_end)))
            };
            Arc::new(Allowed {
                root: user.roles.contains(ROOT),
                read: with([Type::Read, Type::Readwrite]),
                write: with([Type::Write, Type::Readwrite]),
            })
        });
        Some(Arc::clone(allowed))
    }

    /// As in etcd, switching it on is no change of users and roles.
    pub(super) fn enable(&mut self) -> Edit {
        let root = self.users.get(ROOT).ok_or_else(refusal::no_root_user)?;
        if !root.roles.contains(ROOT) {
            return Err(refusal::no_root_role());
        }
        self.enabled = true;
        Ok(false)
    }

    pub(super) fn disable(&mut self) -> Edit {
        Ok(std::mem::take(&mut self.enabled))
    }

    pub(super) fn check_new_user(&self, name: &str) -> Result<(), Status> {
        if name.is_empty() {
            return Err(refusal::no_user_name());
        }
        if self.users.contains_key(name) {
            return Err(refusal::user_exists());
        }
        Ok(())
    }

    pub(super) fn add_user(&mut self, name: &str, hash: Option<Hash>) -> Edit {
        self.check_new_user(name)?;
        let user = User::new(hash, BTreeSet::new());
        self.users.insert(name.to_owned(), user);
        Ok(true)
    }

    pub(super) fn user(&self, name: &str) -> Result<&User, Status> {
        self.users.get(name).ok_or_else(refusal::user_not_found)
    }

    fn user_mut(&mut self, name: &str) -> Result<&mut User, Status> {
        self.users.get_mut(name).ok_or_else(refusal::user_not_found)
    }

    pub(super) fn delete_user(&mut self, name: &str) -> Edit {
        if self.enabled && name == ROOT {
            return Err(refusal::invalid_management());
        }
        self.user(name)?;
        Ok(self.users.remove(name).is_some())
    }

    /// As in etcd, who was made without a password stays without.
    pub(super) fn change_password(&mut self, name: &str, hash: Hash) -> Edit {
        let user = self.user_mut(name)?;
        user.hash = user.hash.take().map(|_| hash);
        Ok(true)
    }

    /// Sees to it that there is a user `root` with a password; one that it has stays.
    pub(super) fn root_with_password(&mut self, hash: Hash) -> Edit {
        let Some(root) = self.users.get_mut(ROOT) else {
            return self.add_user(ROOT, Some(hash));
        };
        let changed = root.hash.is_none();
        root.hash.get_or_insert(hash);
        Ok(changed)
    }

    pub(super) fn root_has_password(&self) -> bool {
        let root = self.users.get(ROOT);
        root.is_some_and(|root| root.hash.is_some())
    }

    pub(super) fn grant_role(&mut self, user: &str, role: &str) -> Edit {
        let known = role == ROOT || self.roles.contains_key(role);
        let user = self.user_mut(user)?;
        if !known {
            return Err(refusal::role_not_found());
        }
        Ok(user.roles.insert(role.to_owned()))
    }

    pub(super) fn revoke_role(&mut self, user: &str, role: &str) -> Edit {
        if self.enabled && user == ROOT && role == ROOT {
            return Err(refusal::invalid_management());
        }
        if !self.user_mut(user)?.roles.remove(role) {
            return Err(refusal::role_not_granted());
        }
        Ok(true)
    }

    pub(super) fn add_role(&mut self, name: &str) -> Edit {
        if name.is_empty() {
            return Err(refusal::no_role_name());
        }
        if self.roles.contains_key(name) {
            return Err(refusal::role_exists());
        }
        self.roles.insert(name.to_owned(), Vec::new());
        Ok(true)
    }

    pub(super) fn role(&self, name: &str) -> Result<&Vec<Permission>, Status> {
        self.roles.get(name).ok_or_else(refusal::role_not_found)
    }

    fn role_mut(&mut self, name: &str) -> Result<&mut Vec<Permission>, Status> {
        self.roles.get_mut(name).ok_or_else(refusal::role_not_found)
    }

    pub(super) fn delete_role(&mut self, name: &str) -> Edit {
        if self.enabled && name == ROOT {
            return Err(refusal::invalid_management());
        }
        self.role(name)?;
        self.roles.remove(name);
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        Ok(true)
    }

    pub(super) fn grant_permission(&mut self, role: &str, permission: Option<Permission>) -> Edit {
        let permission = permission.ok_or_else(refusal::permission_not_given)?;
        let permissions = self.role_mut(role)?;
        let same = permissions
            .iter_mut()
            .find(|known| known.key == permission.key && known.range_end == permission.range_end);
        match same {
            Some(known) => known.perm_type = permission.perm_type,
            None => permissions.push(permission),
        }
        permissions.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(true)
    }

    pub(super) fn revoke_permission(&mut self, role: &str, key: &[u8], end: &[u8]) -> Edit {
        let permissions = self.role_mut(role)?;
        let before = permissions.len();
        permissions.retain(|known| known.key != key || known.range_end != end);
        if permissions.len() == before {
            return Err(refusal::permission_not_granted());
        }
        Ok(true)
    }
}
