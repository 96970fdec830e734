//! Hashing passwords, which takes tens of milliseconds and 19 MiB on purpose: on threads of its own, few at a time, so
//! that a flood of logins holds up nothing but logins.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use rand::RngCore;
use tokio::sync::Semaphore;
use tonic::Status;

use super::book::Hash;
use super::refusal;

/// How many may wait for their turn; more are refused at once.
const WAITING: usize = 128;

/// Hashes and verifies passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// What the password of a user who does not exist is compared with: that takes as long.
    nobodys: Arc<OnceLock<Hash>>,
}

/// Counts one who waits.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub(super) fn new() -> Passwords {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Passwords {
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Arc::default(),
            nobodys: Arc::default(),
        }
    }

    /// Does something slow when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let waiting = Waiting(Arc::clone(&self.waiting));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            return Err(refusal::too_many_logins());
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // Whoever asked may have gone away; the turn is over only now all the same.
            let _turn = turn;
            let _waiting = waiting;
            work()
        });
        done.await
            .unwrap_or_else(|_| Err(Status::internal("synod: hashing a password failed")))
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, password: String) -> Result<Hash, Status> {
        if password.is_empty() {
            return Err(refusal::empty_password());
        }
        self.in_turn(move || hash(&password)).await
    }

    /// Whether it is the password; without a hash it is not, and that takes as long.
    pub(super) async fn verify(
        &self,
        password: String,
        hash_of: Option<Hash>,
    ) -> Result<bool, Status> {
        let nobodys = Arc::clone(&self.nobodys);
        self.in_turn(move || {
            let known = hash_of.is_some();
            let hash = match hash_of {
                Some(hash) => hash,
                None => match nobodys.get() {
                    Some(hash) => hash.clone(),
                    None => nobodys
                        .get_or_init(|| hash("").unwrap_or(Hash(String::new())))
                        .clone(),
                },
            };
            let right = PasswordHash::new(&hash.0).is_ok_and(|hash| {
                let verified = Argon2::default().verify_password(password.as_bytes(), &hash);
                verified.is_ok()
            });
            Ok(right && known)
        })
        .await
    }
}

fn hash(password: &str) -> Result<Hash, Status> {
    let failed = |_| Status::internal("synod: hashing a password failed");
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(Hash(hash.map_err(failed)?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_is_the_password() {
        let passwords = Passwords::new();
        let hash = passwords.hash("secret".into()).await.unwrap();
        let again = passwords.hash("secret".into()).await.unwrap();
        assert_ne!(hash, again, "each has a salt of its own");
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!format!("{hash:?}").contains("argon2"));
        let verify = async |password: &str, hash: Option<&Hash>| {
            let verified = passwords.verify(password.to_owned(), hash.cloned()).await;
            verified.unwrap()
        };
        assert!(verify("secret", Some(&hash)).await);
        assert!(!verify("Secret", Some(&hash)).await);
        assert!(!verify("", Some(&hash)).await);
        assert!(!verify("", None).await);
        assert!(!verify("x", Some(&Hash("nonsense".into()))).await);
        assert!(passwords.hash(String::new()).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_is_bounded() {
        let passwords = Arc::new(Passwords::new());
        let hash = passwords.hash("secret".into()).await.unwrap();
        // Nobody gets a turn while this is held.
        let held = Arc::clone(&passwords.turns);
        let turns = u32::try_from(held.available_permits()).unwrap();
        let held = held.acquire_many_owned(turns).await.unwrap();
        let mut tasks = Vec::new();
        for _ in 0..WAITING {
            let (passwords, hash) = (Arc::clone(&passwords), hash.clone());
            tasks.push(tokio::spawn(async move {
                passwords.verify("wrong".into(), Some(hash)).await
            }));
        }
        while passwords.waiting.load(Ordering::Relaxed) < WAITING {
            tokio::task::yield_now().await;
        }
        let refused = passwords.verify("secret".into(), Some(hash.clone())).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            assert!(task.await.is_err());
        }
        drop(held);
        assert!(passwords.verify("secret".into(), Some(hash)).await.unwrap());
        assert_eq!(passwords.waiting.load(Ordering::Relaxed), 0);
    }
}
