//! Words with quotes, as etcdctl has them: `"` with Go's escapes, `'` without any, and in
//! comparisons also the back quote. Quotes count at the beginning of a word only.

/// What cannot be read, in words.
pub(super) type Wrong = String;

/// Reads a line from left to right.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    pub(super) fn new(line: &'a [u8]) -> Scanner<'a> {
        Scanner { rest: line }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Whether nothing is left but space.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    /// Takes this byte, if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The bytes that come next and are among these.
    pub(super) fn run_of(&mut self, bytes: &[u8]) -> &'a [u8] {
        self.skip_space();
        self.take_while(|byte| bytes.contains(&byte))
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self
            .rest
            .iter()
            .position(|byte| !keep(*byte))
            .unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// The next word: quoted, or up to a space or one of `ends`. `None` when there is none.
    pub(super) fn word(&mut self, ends: &[u8]) -> Result<Option<Vec<u8>>, Wrong> {
        self.skip_space();
        match self.rest.split_first() {
            None => Ok(None),
            Some((b'"', rest)) => {
                self.rest = rest;
                self.escaped().map(Some)
            }
            Some((quote @ (b'\'' | b'`'), rest)) if *quote == b'\'' || !ends.is_empty() => {
                self.rest = rest;
                let inside = self.take_while(|byte| byte != *quote).to_vec();
                if self.next().is_none() {
                    return Err(unfinished());
                }
                Ok(Some(inside))
            }
            Some((first, _)) if ends.contains(first) => Ok(None),
            Some(_) => Ok(Some(
                self.take_while(|byte| !byte.is_ascii_whitespace() && !ends.contains(&byte))
                    .to_vec(),
            )),
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// What stands in double quotes, whose first one is read already.
    fn escaped(&mut self) -> Result<Vec<u8>, Wrong> {
        let mut inside = Vec::new();
        loop {
            match self.next().ok_or_else(unfinished)? {
                b'"' => return Ok(inside),
                b'\\' => self.escape(&mut inside)?,
                byte => inside.push(byte),
            }
        }
    }

    fn escape(&mut self, to: &mut Vec<u8>) -> Result<(), Wrong> {
        let kind = self.next().ok_or_else(unfinished)?;
        let simple = match kind {
            b'a' => 0x07,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            b'\\' | b'\'' | b'"' => kind,
            b'x' => {
                let byte = self.number(2, 16)?;
                u8::try_from(byte).map_err(|_| bad_escape(kind))?
            }
            b'0'..=b'7' => {
                let low = self.number(2, 8)?;
                let number = u32::from(kind - b'0') * 64 + low;
                u8::try_from(number).map_err(|_| bad_escape(kind))?
            }
            b'u' | b'U' => {
                let number = self.number(if kind == b'u' { 4 } else { 8 }, 16)?;
                let letter = char::from_u32(number).ok_or_else(|| bad_escape(kind))?;
                to.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(bad_escape(kind)),
        };
        to.push(simple);
        Ok(())
    }

    /// A number of so many digits.
    fn number(&mut self, digits: usize, radix: u32) -> Result<u32, Wrong> {
        let (number, rest) = self.rest.split_at_checked(digits).ok_or_else(unfinished)?;
        self.rest = rest;
        std::str::from_utf8(number)
            .ok()
            .filter(|number| !number.starts_with('+'))
            .and_then(|number| u32::from_str_radix(number, radix).ok())
            .ok_or_else(|| format!("\\ is followed by a number with {digits} digits"))
    }
}

/// A line's words.
pub(super) fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Wrong> {
    let mut scanner = Scanner::new(line);
    let mut words = Vec::new();
    while let Some(word) = scanner.word(b"")? {
        words.push(word);
    }
    Ok(words)
}

fn unfinished() -> Wrong {
    "the line ends inside a quote".to_owned()
}

fn bad_escape(kind: u8) -> Wrong {
    format!(
        "\\{} means nothing inside double quotes; single quotes take every byte as it is",
        kind.escape_ascii()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        words(line.as_bytes())
            .unwrap()
            .into_iter()
            .map(|word| String::from_utf8_lossy(&word).into_owned())
            .collect()
    }

    #[test]
    fn words_are_split_as_by_etcdctl() {
        assert_eq!(split("put  k v"), ["put", "k", "v"]);
        assert_eq!(
            split(r#"put key1 "a b\n\"c\"""#),
            ["put", "key1", "a b\n\"c\""]
        );
        assert_eq!(split(r"put k 'a \n b'"), ["put", "k", r"a \n b"]);
        assert_eq!(split(r#"put k a"b c"#), ["put", "k", "a\"b", "c"]);
        assert_eq!(split(r#"put k "" x"#), ["put", "k", "", "x"]);
        assert_eq!(split(r#"k "\x41\101\u00e4\U0001F512""#), ["k", "AAä🔒"]);
        assert_eq!(split("k `a b`"), ["k", "`a", "b`"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (line, why) in [
            ("put k \"v", "ends inside a quote"),
            ("put k 'v", "ends inside a quote"),
            (r#"put k "\q""#, "means nothing"),
            (r#"put k "\x+1""#, "2 digits"),
            (r#"put k "\777""#, "means nothing"),
            (r#"put k "\ud800""#, "means nothing"),
        ] {
            let wrong = words(line.as_bytes()).unwrap_err();
            assert!(wrong.contains(why), "{line}: {wrong}");
        }
    }
}
