//! A whole transaction, line by line, in either of two forms. The first line tells which.
//!
//! etcdctl's: conditions, a blank line, what runs when they hold, a blank line, what runs when they
//! do not, and a blank line or the end.
//!
//! The readable one: each line belongs to the last of the words `when`, `then` and `else` before
//! it, which may stand on the same line or alone. Blank lines mean nothing, `#` begins a comment.

use synod_store::{Compare, TxnOp};

use super::compare::compare;
use super::op::op;
use super::quoted::Wrong;

/// A transaction that is being read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) compares: Vec<Compare>,
    pub(super) success: Vec<TxnOp>,
    pub(super) failure: Vec<TxnOp>,
    form: Option<Form>,
    section: Section,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Etcdctl,
    Readable,
}

/// What the next line belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Section {
    /// The conditions.
    #[default]
    When,
    /// What runs when they hold.
    Then,
    /// What runs when they do not.
    Else,
    /// Nothing: the transaction is complete.
    Over,
}

impl Section {
    /// What a terminal is told when it begins; etcdctl's words.
    pub(super) fn title(self) -> Option<&'static str> {
        match self {
            Section::When => Some("compares:"),
            Section::Then => Some("success requests (get, put, del):"),
            Section::Else => Some("failure requests (get, put, del):"),
            Section::Over => None,
        }
    }
}

impl Draft {
    /// Where the next line goes.
    pub(super) fn section(&self) -> Section {
        self.section
    }

    /// Whether this is the form whose sections end with a blank line.
    pub(super) fn is_etcdctl(&self) -> bool {
        self.form != Some(Form::Readable)
    }

    /// Takes one line. A line that is wrong changes nothing.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Wrong> {
        let line = line.trim_ascii();
        let form = *self.form.get_or_insert_with(|| {
            if line.starts_with(b"#") || keyword(line).is_some() {
                Form::Readable
            } else {
                Form::Etcdctl
            }
        });
        match form {
            Form::Etcdctl if line.is_empty() => {
                self.section = match self.section {
                    Section::When => Section::Then,
                    Section::Then => Section::Else,
                    Section::Else | Section::Over => Section::Over,
                };
                Ok(())
            }
            Form::Etcdctl => self.entry(self.section, line),
            Form::Readable if line.is_empty() || line.starts_with(b"#") => Ok(()),
            Form::Readable => {
                let (section, rest) = keyword(line).unwrap_or((self.section, line));
                if !rest.is_empty() {
                    self.entry(section, rest)?;
                }
                self.section = section;
                Ok(())
            }
        }
    }

    /// Takes a condition or an operation.
    pub(super) fn entry(&mut self, section: Section, text: &[u8]) -> Result<(), Wrong> {
        match section {
            Section::When => self.compares.push(compare(text)?),
            Section::Then => self.success.push(op(text)?),
            Section::Else => self.failure.push(op(text)?),
            Section::Over => return Err("the transaction is complete already".to_owned()),
        }
        Ok(())
    }
}

/// The section that a line begins, and what else it says.
fn keyword(line: &[u8]) -> Option<(Section, &[u8])> {
    let end = line
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let section = match word {
        b"when" => Section::When,
        b"then" => Section::Then,
        b"else" => Section::Else,
        _ => return None,
    };
    Some((section, rest.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_store::{DeleteRequest, PutRequest, RangeRequest};

    fn read(text: &str) -> Draft {
        let mut draft = Draft::default();
        for line in text.lines() {
            draft.line(line.as_bytes()).unwrap();
        }
        draft
    }

    #[test]
    fn both_forms_say_the_same() {
        let etcdctl = read(
            "mod(\"k\") > \"0\"\nversion(\"l\") = \"1\"\n\nput k v\n\nget k\ndel l\n\nput past end\n"
                .trim_end_matches("put past end\n"),
        );
        let readable = read(
            "# a comment\n\nwhen mod(k) > 0\n     version(l) = 1\nthen\n\n  put k v\nelse get k\n  del l\n",
        );
        for draft in [&etcdctl, &readable] {
            assert_eq!(draft.compares.len(), 2);
            assert_eq!(draft.success, [PutRequest::new("k", "v").into()]);
            assert_eq!(
                draft.failure,
                [
                    RangeRequest::new("k").into(),
                    DeleteRequest::new("l").into()
                ]
            );
        }
        assert_eq!(etcdctl.compares, readable.compares);
        assert_eq!(etcdctl.section(), Section::Over);
        assert!(!readable.is_etcdctl());
    }

    #[test]
    fn sections_may_be_empty_or_missing() {
        let draft = read("\nput k v");
        assert!(draft.compares.is_empty() && draft.failure.is_empty());
        assert_eq!(draft.success.len(), 1);
        let draft = read("then put k v\nwhen version(k) = 0\nthen get k");
        assert_eq!((draft.compares.len(), draft.success.len()), (1, 2));
    }

    #[test]
    fn a_wrong_line_changes_nothing() {
        let mut draft = read("when version(k) = 0");
        assert!(draft.line(b"then pot k v").is_err());
        assert_eq!(draft.section(), Section::When);
        assert!(draft.success.is_empty());
    }
}
