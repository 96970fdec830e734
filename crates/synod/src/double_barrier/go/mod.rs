//! The layout of etcd's Go recipe, for rounds that Go programs take part in.
//!
//! # Key layout
//!
//! ```text
//! key                  value         lease          written by          deleted by
//! NAME/waiters/NANOS   identity      the session's  the participant     the participant, or the lease's end
//! NAME/ready           empty         none           whoever sees that   the last to leave
//!                                                   all are there
//! ```
//!
//! `NANOS` is the wall clock in nanoseconds, in decimal. Go leaves the value empty, and reads none.
//!
//! # Protocol
//!
//! All that a participant needs to know is in one range, `[NAME/ready, end of NAME/waiters*)`, which is
//! watched once for all participants of a client. Let `c` be the own key's create revision.
//!
//! *Enter*:
//! 1. Read the waiters. As many as the count or more: too many.
//! 2. `If create(own)=0 Then put(own), count the waiters`, through a lane. More than the count: delete
//!    it, too many.
//! 3. In each view at `c` or later: the own key is not there: the session is lost. `ready` was put
//!    after `c`: the round is full. Of the waiters created after `ready` was last put (those before are
//!    leaving) there are enough: the one who completed them publishes at once, the others after a
//!    moment, should that one have died: `If create(own)=c and mod(ready) is as seen and the counted
//!    keys are those that were seen Then put(ready)`.
//!
//! *Bow out*: `If create(own)=c and mod(ready)<c Then delete(own)`.
//!
//! *Leave* of a round that was full at `f`, when `ready` was put:
//! 1. The one with the lowest modification revision of those created up to `f` stays until it is the
//!    only one of them; the others delete their keys, and wait until none is left. (Go's processes
//!    wait for the lowest to go, and expect it to wait for the others.)
//! 2. The only one: `If create(own)=c Then delete(own)`, and `ready` if it is still as seen.
//!
//! Keys created after `f` are newcomers, who are not waited for. So the first view at `f` or later that shows none of the
//! round is enough: all of them were there at `f`, the own one too, and nobody puts one again.
//!
//! *A key that was perhaps put*, for a call that was told a token or went with its runtime: once the token says that it
//! can have been, `If lease(own)=the session's Then delete(own)`; without a token, a copy that comes later is looked
//! for, too (`waiters::leftovers`).
//!
//! `hall`: what a view says, and the Txns. `join`: the way in. `member`: who is in, and the way out.

mod hall;
mod join;
mod member;

pub(super) use hall::Hall;
pub(super) use join::join;
pub(super) use member::Member;
