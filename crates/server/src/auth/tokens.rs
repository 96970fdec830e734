//! Tokens: who has shown a password lately.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::distr::Alphanumeric;

/// How many letters a token has: 190 bits that nobody can guess.
const LETTERS: usize = 32;
/// Tokens beyond which those whose time is over are looked for at each new one.
const MANY: usize = 1024;

/// All tokens that are good, in memory only.
pub(super) struct Tokens {
    /// How long a token is good without being used.
    ttl: Duration,
    good: Mutex<HashMap<String, Token>>,
}

struct Token {
    user: String,
    until: Instant,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(ttl: Duration) -> Tokens {
        Tokens {
            ttl,
            good: Mutex::default(),
        }
    }

    fn good(&self) -> MutexGuard<'_, HashMap<String, Token>> {
        // Nothing under this lock can leave the map half changed.
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token of a user.
    pub(super) fn give(&self, user: &str) -> String {
        // The generator of threads is one that nobody can foresee.
        let letters = rand::rng().sample_iter(Alphanumeric).take(LETTERS);
        let text: String = letters.map(char::from).collect();
        let now = Instant::now();
        let token = Token {
            user: user.to_owned(),
            until: now + self.ttl,
        };
        let mut good = self.good();
        if good.len() >= MANY {
            good.retain(|_, token| token.until > now);
        }
        good.insert(text.clone(), token);
        text
    }

    /// Whose token it is, if it is good; being used, it is good for another while.
    pub(super) fn user(&self, token: &str) -> Option<String> {
        let now = Instant::now();
        let mut good = self.good();
        let known = good.get_mut(token)?;
        if known.until <= now {
            good.remove(token);
            return None;
        }
        known.until = now + self.ttl;
        Some(known.user.clone())
    }

    /// Forgets all tokens of a user.
    pub(super) fn revoke(&self, user: &str) {
        self.good().retain(|_, token| token.user != user);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.good().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_is_taken_back_or_its_time_is_over() {
        let tokens = Tokens::new(Duration::from_secs(60));
        let (a, b) = (tokens.give("a"), tokens.give("b"));
        assert_ne!(a, tokens.give("a"));
        assert_eq!(a.len(), LETTERS);
        assert_eq!(tokens.user(&a).as_deref(), Some("a"));
        assert_eq!(tokens.user("x"), None);
        tokens.revoke("a");
        assert_eq!(tokens.user(&a), None);
        assert_eq!(tokens.user(&b).as_deref(), Some("b"));
        tokens.clear();
        assert_eq!(tokens.user(&b), None);
        let over = Tokens::new(Duration::ZERO);
        let token = over.give("a");
        assert_eq!(over.user(&token), None);
        for _ in 0..2 * MANY {
            over.give("a");
        }
        assert!(over.good().len() <= MANY, "they do not pile up");
        assert!(!format!("{tokens:?}").contains(&b));
    }
}
