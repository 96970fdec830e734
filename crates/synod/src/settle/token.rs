//! [`Token`]: which operation's outcome is open, and where it will be found written.

use std::fmt;
use std::str::FromStr;

use synod_store::Revision;

/// The name of one operation, drawn by lot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OpId(pub(crate) u128);

impl OpId {
    pub(crate) fn draw() -> OpId {
        OpId(rand::random())
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// An operation whose outcome is not known yet; see [`Client::resolve`](crate::Client::resolve).
///
/// Its text form can be kept, and resolved by another process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// The session of lanes that the operation went through.
    pub(crate) epoch: u128,
    /// When that session's fence was created.
    pub(crate) fence_created: Revision,
    /// The lane's number.
    pub(crate) lane: u32,
    /// The lane's modification revision before the operation.
    pub(crate) lane_mod: Revision,
    /// When the operation began, in seconds since 1970.
    pub(crate) begun: u64,
    /// The operation.
    pub(crate) op: OpId,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:032x}.{:x}.{:x}.{:x}.{:x}.{}",
            self.epoch, self.fence_created.0, self.lane, self.lane_mod.0, self.begun, self.op
        )
    }
}

/// The text is no [`Token`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the text of a token: six hexadecimal numbers with dots in between")]
pub struct ParseTokenError;

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Token, ParseTokenError> {
        let mut parts = text.split('.').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
            plain
                .then(|| u128::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(ParseTokenError)
        });
        let mut next = || parts.next().unwrap_or(Err(ParseTokenError));
        let small = |number: u128| u64::try_from(number).map_err(|_| ParseTokenError);
        let token = Token {
            epoch: next()?,
            fence_created: Revision(small(next()?)?),
            lane: u32::try_from(next()?).map_err(|_| ParseTokenError)?,
            lane_mod: Revision(small(next()?)?),
            begun: small(next()?)?,
            op: OpId(next()?),
        };
        if parts.next().is_some() {
            Err(ParseTokenError)
        } else {
            Ok(token)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
        let token = Token {
            epoch: 7,
            fence_created: Revision(12),
            lane: 3,
            lane_mod: Revision(u64::MAX),
            begun: 1_790_000_000,
            op: OpId(u128::MAX),
        };
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5.6.7",
            "1.2.3.4.5.x",
            "1.2.3.4.5.",
            "1.2.+3.4.5.6",
        ] {
            assert_eq!(text.parse::<Token>(), Err(ParseTokenError), "{text}");
        }
    }
}
