//! Users, roles and what they may do, as etcd's Auth service has them.
//!
//! # What is kept
//!
//! Users, roles and whether authentication is on are *notes* of the embedded store (`Engine::notes`): as durable as
//! the keys, in every snapshot and backup, without a revision, and out of reach of every request. One change is one
//! record of the journal: after a crash it stands whole or not at all.
//!
//! | note | what |
//! |---|---|
//! | `auth` | whether authentication is on, and the revision of users and roles |
//! | `auth/user/NAME` | the password's hash (Argon2id), unless the user has none, and the names of the roles |
//! | `auth/role/NAME` | what may be read and written |
//!
//! # Protocol
//!
//! 1. *Authenticate*: name and password become a token of 32 random letters, which is forgotten after 5 minutes without
//!    use, when the password changes, when the user is deleted, and at a restart. The client puts it into the metadata
//!    of each request, and asks for another one when it is refused.
//!    A request without a token is made by the user that the client's certificate names, if it has shown one.
//! 2. Each request is checked when it arrives, against users and roles as they are then: every key that it reads or
//!    writes, in conditions and in the branches that are not taken, too.
//! 3. A change of users and roles is made by one at a time: check, store, publish, answer. A caller that goes away does
//!    not stop it half way. Requests that were let in just before may still be carried out.
//!
//! A watch is checked when it is made, as in etcd: it goes on when the permission is taken away afterwards.
//!
//! - `book.rs`: users and roles, and each way to change them. `notes.rs`: the same as stored. `ranges.rs`: permissions.
//! - `tokens.rs`, `passwords.rs`, `certificate.rs`: who somebody is. `access.rs`: what a request may do.
//! - `accounts.rs`: all of it together. `service.rs`: etcd's service.

mod access;
mod accounts;
mod book;
mod certificate;
mod notes;
mod passwords;
mod ranges;
mod service;
mod tokens;

pub(crate) use access::{Access, Credentials};
pub(crate) use accounts::Accounts;
pub(crate) use certificate::name_user;

use tonic::Status;

/// etcd's refusals, with its codes and texts: clients match on both.
pub(crate) mod refusal {
    use super::Status;

    macro_rules! refusals {
        ($($name:ident: $code:ident $text:literal;)*) => {$(
            pub(crate) fn $name() -> Status {
                Status::$code($text)
            }
        )*};
    }

    refusals! {
        not_enabled: failed_precondition "etcdserver: authentication is not enabled";
        no_user_name: invalid_argument "etcdserver: user name is empty";
        invalid_token: unauthenticated "etcdserver: invalid auth token";
        denied: permission_denied "etcdserver: permission denied";
        wrong_password: invalid_argument
            "etcdserver: authentication failed, invalid user ID or password";
        no_password_user: unknown
            "auth: authentication failed, password was given for no password user";
        invalid_management: invalid_argument "etcdserver: invalid auth management";
        no_root_user: failed_precondition "etcdserver: root user does not exist";
        no_root_role: failed_precondition "etcdserver: root user does not have root role";
        user_exists: failed_precondition "etcdserver: user name already exists";
        user_not_found: failed_precondition "etcdserver: user name not found";
        role_exists: failed_precondition "etcdserver: role name already exists";
        role_not_found: failed_precondition "etcdserver: role name not found";
        no_role_name: invalid_argument "etcdserver: role name is empty";
        permission_not_given: invalid_argument "etcdserver: permission not given";
        role_not_granted: failed_precondition "etcdserver: role is not granted to the user";
        permission_not_granted: failed_precondition
            "etcdserver: permission is not granted to the role";
        empty_password: invalid_argument "synod: the password is empty";
        must_stay_on: failed_precondition
            "synod: this server serves other machines; its authentication stays on";
        too_many_logins: resource_exhausted "synod: too many logins at once; try again";
    }
}
