//! Lines of standard input, read on a thread of its own: reading blocks, and the program must be
//! able to end meanwhile.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

/// Lines without their newlines.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl Lines {
    /// Those of standard input. The thread ends with its input, or with the process.
    pub(crate) fn of_stdin() -> io::Result<Lines> {
        Lines::of(io::stdin())
    }

    fn of(input: impl Read + Send + 'static) -> io::Result<Lines> {
        // A few ahead, so that whoever takes them in batches gets batches.
        let (tx, lines) = mpsc::channel(256);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut input = BufReader::new(input);
                loop {
                    let mut line = Vec::new();
                    let item = match input.read_until(b'\n', &mut line) {
                        Ok(0) => return,
                        Ok(_) => {
                            if line.last() == Some(&b'\n') {
                                line.pop();
                            }
                            Ok(line)
                        }
                        Err(error) => Err(error),
                    };
                    let failed = item.is_err();
                    if tx.blocking_send(item).is_err() || failed {
                        return;
                    }
                }
            })?;
        Ok(Lines { lines })
    }

    /// The next line; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Safe: no line is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.lines.recv().await.transpose()
    }

    /// At least one line, and those that are there already, up to `most`; none at the end.
    ///
    /// # Cancel safety
    ///
    /// Safe: no line is lost.
    pub(crate) async fn batch(&mut self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut batch = Vec::new();
        self.lines.recv_many(&mut batch, most).await;
        batch.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_lose_their_newline_and_nothing_else() {
        let mut lines = Lines::of(&b"a\n\n\xff b \r\nend"[..]).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push(line);
        }
        assert_eq!(read, [&b"a"[..], b"", b"\xff b \r", b"end"]);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_none_is_the_end() {
        let mut lines = Lines::of(&b"1\n2\n3\n"[..]).unwrap();
        let mut read = Vec::new();
        loop {
            let batch = lines.batch(2).await.unwrap();
            assert!(batch.len() <= 2);
            if batch.is_empty() {
                break;
            }
            read.extend(batch);
        }
        assert_eq!(read, [b"1", b"2", b"3"]);
    }
}
