//! HTTP/2 by hand, for clients that do with it what no library lets them do.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames.
pub mod kind {
    /// Bytes of a request or an answer.
    pub const DATA: u8 = 0;
    /// The beginning of one.
    pub const HEADERS: u8 = 1;
    /// What a side can bear.
    pub const SETTINGS: u8 = 4;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// That more may be sent.
    pub const WINDOW_UPDATE: u8 = 8;
}

/// Of [`kind::DATA`] and [`kind::HEADERS`]: with it the stream ends.
pub const END_STREAM: u8 = 1;

/// Of [`kind::HEADERS`]: they are whole.
pub const END_HEADERS: u8 = 4;

/// Of [`kind::SETTINGS`]: those of the other side are obeyed.
pub const ACKNOWLEDGED: u8 = 1;

/// A frame. Stream 0 is the connection.
///
/// # Panics
///
/// When the payload is longer than a frame may be.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [0, length @ ..] = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes()
    else {
        panic!("a frame has less than 16 MiB");
    };
    let stream = stream.to_be_bytes();
    [&length[..], &[kind, flags], &stream, payload].concat()
}

/// The frame that begins a call of gRPC at `path`.
///
/// # Panics
///
/// When the path has more than 126 bytes.
#[must_use]
pub fn call(stream: u32, path: &str) -> Vec<u8> {
    const METADATA: [(&str, &str); 5] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("a short text");
        assert!(length < 127, "{text} is too long");
        [&[length], text.as_bytes()].concat()
    };
    let pairs = METADATA.into_iter().chain([(":path", path)]);
    // The names that begin with a colon come first.
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|(name, _)| !name.starts_with(':'));
    // Each in full, without the tables.
    let block: Vec<u8> = pairs
        .into_iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect();
    frame(kind::HEADERS, END_HEADERS, stream, &block)
}

/// A message as it stands in the body of a call.
///
/// # Panics
///
/// When it is longer than 4 GiB.
#[must_use]
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("less than 4 GiB");
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

/// The frames that let the other side send 2 GiB on each stream, and in all.
#[must_use]
pub fn wide_windows() -> Vec<u8> {
    const INITIAL_WINDOW: [u8; 2] = [0, 4];
    let window = [&INITIAL_WINDOW[..], &[0x7f, 0xff, 0xff, 0xff]].concat();
    let more = 0x7fff_0000_u32.to_be_bytes();
    [
        frame(kind::SETTINGS, 0, 0, &window),
        frame(kind::WINDOW_UPDATE, 0, 0, &more),
    ]
    .concat()
}

/// A frame that was read: its kind and its payload.
///
/// # Errors
///
/// When the connection ends before it is whole.
pub async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await?;
    let [a, b, c, kind, ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

/// Begins a connection, with these frames after the [`PREFACE`], and waits until the other side has told how much it takes:
/// before that it is 64 KiB.
///
/// # Errors
///
/// When the connection ends meanwhile.
pub async fn greet(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    frames: &[u8],
) -> io::Result<()> {
    stream.write_all(&[PREFACE, frames].concat()).await?;
    let (mut settings, mut window) = (false, false);
    while !(settings && window) {
        let (kind, payload) = read(stream).await?;
        settings |= kind == kind::SETTINGS && !payload.is_empty();
        window |= kind == kind::WINDOW_UPDATE;
    }
    let acknowledged = frame(kind::SETTINGS, ACKNOWLEDGED, 0, &[]);
    stream.write_all(&acknowledged).await
}
