//! Answers on stdout, as text or as JSON, and notices on stderr.
//!
//! Text is the value alone and a newline, byte for byte. JSON is one object a line with the fields
//! that each command's help names; a value that is UTF-8 is in `value`, any other in
//! `value_base64`. Every answer is flushed at once, so that a reader at the other end of a pipe
//! sees it when it is given.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::args::Format;

/// Where answers go.
pub(crate) struct Output {
    format: Format,
    to: Box<dyn Write + Send>,
}

impl Output {
    pub(crate) fn stdout(format: Format) -> Output {
        Output::new(format, Box::new(io::stdout()))
    }

    pub(crate) fn new(format: Format, to: Box<dyn Write + Send>) -> Output {
        Output { format, to }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// A line of text or, as JSON, `fields`.
    pub(crate) fn line(&mut self, text: &str, fields: Value) -> io::Result<()> {
        self.bytes(text.as_bytes(), fields)
    }

    /// A stored value: its bytes and a newline or, as JSON, `fields` with the value among them.
    pub(crate) fn value(&mut self, value: &[u8], fields: Value) -> io::Result<()> {
        let fields = match self.format {
            Format::Text => fields,
            Format::Json => with_value(fields, value),
        };
        self.bytes(value, fields)
    }

    /// Bytes and a newline or, as JSON, `fields`.
    pub(crate) fn bytes(&mut self, text: &[u8], fields: Value) -> io::Result<()> {
        match self.format {
            Format::Text => self.to.write_all(text)?,
            Format::Json => self.to.write_all(fields.to_string().as_bytes())?,
        }
        self.to.write_all(b"\n")?;
        self.to.flush()
    }
}

/// `fields` with `value` among them.
fn with_value(fields: Value, value: &[u8]) -> Value {
    let mut object = match fields {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    insert_bytes(&mut object, "value", value);
    Value::Object(object)
}

/// Puts bytes under `name` when they are text, else in base 64 under `name_base64`.
pub(crate) fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), Value::from(text)),
        Err(_) => object.insert(
            format!("{name}_base64"),
            Value::from(STANDARD.encode(bytes)),
        ),
    };
}

/// One line on stderr. A closed stderr is nobody's loss.
pub(crate) fn notice(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: Format, value: &[u8]) -> Vec<u8> {
        let sink = Sink::default();
        Output::new(format, Box::new(sink.clone()))
            .value(value, json!({ "key": "q/1" }))
            .unwrap();
        std::mem::take(&mut *sink.0.lock().unwrap())
    }

    #[test]
    fn text_is_the_value_byte_for_byte() {
        assert_eq!(written(Format::Text, b"a \xff\0"), b"a \xff\0\n");
    }

    #[test]
    fn json_names_what_is_no_text() {
        let object: Value = serde_json::from_slice(&written(Format::Json, b"a")).unwrap();
        assert_eq!(object, json!({ "key": "q/1", "value": "a" }));
        let object: Value = serde_json::from_slice(&written(Format::Json, b"\xff\0")).unwrap();
        assert_eq!(object, json!({ "key": "q/1", "value_base64": "/wA=" }));
    }
}
