//! What every guard of a lock can do: [`guard!`](crate::waiters::guard) makes one around a
//! [`Hold`](super::Hold).

/// Makes a guard: its documentation and name, the kind of hold, what it has beside that, and what its
/// release is called.
macro_rules! guard {
    (
        $(#[$meta:meta])*
        $name:ident($hold:ty) $({ $($(#[$about:meta])* $field:ident: $type:ty,)* })?, $release:ident as $span:literal
    ) => {
        $(#[$meta])*
        pub struct $name {
            hold: $hold,
            $($($(#[$about])* $field: $type,)*)?
        }

        impl $name {
            pub(super) fn new(hold: $hold $($(, $field: $type)*)?) -> $name {
                $name { hold $($(, $field)*)? }
            }

            /// The key that this acquisition alone has.
            #[must_use]
            pub fn key(&self) -> &synod_store::Key {
                self.hold.key()
            }

            /// A number that rises from holder to holder: the key's create revision. What is protected
            /// should refuse lower ones than it has seen.
            #[must_use]
            pub fn fencing_token(&self) -> u64 {
                self.hold.token()
            }

            /// The session that it is held under.
            #[must_use]
            pub fn session(&self) -> &$crate::Session {
                self.hold.session()
            }

            /// A condition that holds as long as this does, for a transaction of one's own.
            pub fn is_owner(&self) -> synod_store::Compare {
                self.hold.is_owner()
            }

            /// A transaction that does nothing unless this is still held: then it fails with
            /// [`Error::NotOwner`](crate::Error::NotOwner). What is written so can never overwrite what
            /// a later holder wrote.
            pub fn txn(&self) -> $crate::Txn {
                self.hold.txn()
            }

            /// Waits until it is lost: the session is, or somebody has deleted the key. Also ends after
            /// the release. The key is watched from the first poll on; a watch that fails is opened again,
            /// and nothing is concluded from that.
            ///
            /// # Cancel safety
            ///
            /// Dropping it leaves nothing behind.
            pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
                self.hold.lost()
            }

            /// Asks the store whether it is still held. One round trip.
            ///
            /// # Cancel safety
            ///
            /// Dropping it changes nothing.
            ///
            /// # Errors
            ///
            /// [`Error::SessionLost`](crate::Error::SessionLost) or
            /// [`Error::NotOwner`](crate::Error::NotOwner) when it is not; or what the store answered
            /// after not having been reached for the client's timeout.
            pub async fn check(&self) -> $crate::Result<()> {
                self.hold.check().await
            }

            /// Releases it, and tells whether it was held until then. One round trip.
            ///
            /// # Cancel safety
            ///
            /// When this is dropped, it is released in the background.
            ///
            /// # Errors
            ///
            /// [`Error::SessionLost`](crate::Error::SessionLost) or
            /// [`Error::NotOwner`](crate::Error::NotOwner) when it was lost before: another may have
            /// been in meanwhile. Nothing was changed then. Otherwise what the store answered after not
            /// having been reached for the client's timeout: then it is tried on in the background, as
            /// long as the session lives.
            pub async fn $release(self) -> $crate::Result<()> {
                let (lease, token) = (self.session().lease(), self.fencing_token());
                $crate::span::traced!($span, key = self.key(), self.hold.release())
                    .under(lease)
                    .fenced(token)
                    .await
            }
        }

        impl $crate::span::Told for $name {
            fn tell(&self, span: &tracing::Span) {
                span.record("outcome", "ok")
                    .record("lease", tracing::field::display(self.session().lease()))
                    .record("token", self.fencing_token());
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("key", self.key())
                    .field("fencing_token", &self.fencing_token())
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use guard;
