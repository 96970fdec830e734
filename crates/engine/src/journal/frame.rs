//! One durable group of records in a log segment.
//!
//! ```text
//! offset  bytes
//!      0  4      tag: low half of the segment's salt
//!      4  4      CRC-32 of the salt and of all bytes from 8 on
//!      8  4      CRC of the frame before (of the last segment's last frame, for the first one)
//!     12  4      length of the payload
//!     16  8      number of the first record
//!     24  4      how many records
//!     28  ...    payload: for each record its length (4 bytes) and its bytes
//! ```
//!
//! A frame without records is the seal of a segment: the next one is durable, so it must be there. No CRC is
//! chained to it.
//!
//! All numbers are little-endian. The salt is random for each segment, so that neither what a recycled file
//! held before nor bytes that a user stores can pass for a frame, wherever in the file one looks: this is how
//! recovery tells a torn tail from a hole.

use bytes::Bytes;

/// Bytes before the payload.
pub(super) const HEADER: usize = 28;

/// A frame whose own CRC is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) crc: u32,
    pub(super) prev: u32,
    pub(super) first: u64,
    pub(super) count: u32,
    payload: &'a [u8],
}

/// The low half of the salt: what a scan looks for.
fn tag(salt: u64) -> [u8; 4] {
    (salt as u32).to_le_bytes()
}

fn crc(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// How long the frame of these records is.
pub(super) fn len(records: &[Bytes]) -> usize {
    records.iter().fold(HEADER, |sum, r| {
        sum.saturating_add(4).saturating_add(r.len())
    })
}

/// Writes a frame into `out` in place of what is there, and gives its CRC. The caller has seen to it that the
/// payload is below 4 GiB.
pub(super) fn encode(
    out: &mut Vec<u8>,
    salt: u64,
    prev: u32,
    first: u64,
    records: &[Bytes],
) -> u32 {
    let payload = (len(records) - HEADER) as u32;
    // What the CRC covers comes first, the eight bytes before it when the CRC is known.
    out.clear();
    out.extend_from_slice(&tag(salt));
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&prev.to_le_bytes());
    out.extend_from_slice(&payload.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    for record in records {
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record);
    }
    let crc = crc(salt, out.get(8..).unwrap_or_default());
    if let Some(place) = out.get_mut(4..8) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    crc
}

/// The frame that begins at the first of these bytes, if a whole and undamaged one does.
pub(super) fn decode(bytes: &[u8], salt: u64) -> Option<Frame<'_>> {
    if !begins(bytes, salt) {
        return None;
    }
    let payload = u32_at(bytes, 12)? as usize;
    let frame = bytes.get(..HEADER.checked_add(payload)?)?;
    let stored = u32_at(frame, 4)?;
    let frame = Frame {
        crc: (crc(salt, frame.get(8..)?) == stored || is_trusting()).then_some(stored)?,
        prev: u32_at(frame, 8)?,
        first: u64_at(frame, 16)?,
        count: u32_at(frame, 24)?,
        payload: frame.get(HEADER..)?,
    };
    // A frame that is whole but does not hold what it says is damage too, never half a group.
    (frame.records().count() == frame.count as usize && frame.records().all(|r| r.is_some()))
        .then_some(frame)
}

/// Whether this thread takes frames as they come, to see that the tests of damage notice.
#[cfg(any(test, feature = "fuzzing"))]
fn is_trusting() -> bool {
    TRUSTING.get()
}

#[cfg(not(any(test, feature = "fuzzing")))]
const fn is_trusting() -> bool {
    false
}

#[cfg(any(test, feature = "fuzzing"))]
thread_local! {
    static TRUSTING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// While it lives, this thread's checksums are not compared.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) struct Trust(());

/// Makes this thread an engine without checksums.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn trust_frames() -> Trust {
    TRUSTING.set(true);
    Trust(())
}

#[cfg(any(test, feature = "fuzzing"))]
impl Drop for Trust {
    fn drop(&mut self) {
        TRUSTING.set(false);
    }
}

/// Whether a frame of this segment was at least begun here.
pub(super) fn begins(bytes: &[u8], salt: u64) -> bool {
    bytes.starts_with(&tag(salt))
}

/// Where the next undamaged frame begins, at or behind `from`.
pub(super) fn find(bytes: &[u8], from: usize, salt: u64) -> Option<usize> {
    let tag = tag(salt);
    let rest = bytes.get(from..)?;
    let mut tags = rest
        .windows(tag.len())
        .enumerate()
        .filter(|(_, w)| *w == tag);
    tags.find_map(|(at, _)| decode(rest.get(at..)?, salt).map(|_| from + at))
}

impl<'a> Frame<'a> {
    /// Bytes of the whole frame.
    pub(super) fn len(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// Its records; `None` where the payload ends amid one (never so in a decoded frame).
    pub(super) fn records(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = self.payload;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let split = || -> Option<_> {
                let len = u32_at(rest, 0)? as usize;
                rest.get(4..)?.split_at_checked(len)
            };
            let Some((record, behind)) = split() else {
                rest = &[];
                return Some(None);
            };
            rest = behind;
            Some(Some(record))
        })
    }
}

/// A number of four bytes, if they are there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number of eight bytes, if they are there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8),
            salt: u64, prev: u32, first: u64, behind: Vec<u8>,
        ) {
            let records: Vec<Bytes> = records.into_iter().map(Bytes::from).collect();
            let mut bytes = Vec::new();
            let crc = encode(&mut bytes, salt, prev, first, &records);
            prop_assert_eq!(bytes.len(), len(&records));
            bytes.extend_from_slice(&behind);
            let frame = decode(&bytes, salt).unwrap();
            prop_assert_eq!((frame.crc, frame.prev, frame.first), (crc, prev, first));
            prop_assert_eq!(frame.len(), len(&records));
            let found: Vec<&[u8]> = frame.records().map(Option::unwrap).collect();
            prop_assert_eq!(found, records);
            prop_assert!(decode(&bytes, salt ^ (1 << 40)).is_none(), "another segment's frame");
        }

        #[test]
        fn arbitrary_bytes_are_no_frame(bytes: Vec<u8>, salt: u64) {
            prop_assert!(decode(&bytes, salt).is_none());
            prop_assert!(find(&bytes, 0, salt).is_none());
        }
    }

    #[test]
    fn the_stored_bytes_stay_as_they_are() {
        let mut bytes = Vec::new();
        encode(
            &mut bytes,
            0x1122_3344_5566_7788,
            7,
            9,
            &[Bytes::from("ab"), Bytes::new()],
        );
        assert_eq!(
            bytes,
            [
                &[0x88, 0x77, 0x66, 0x55][..],
                &bytes[4..8],
                &[7, 0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
                &[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0],
            ]
            .concat()
        );
        assert_eq!(
            u32_at(&bytes, 4),
            Some(crc(0x1122_3344_5566_7788, &bytes[8..]))
        );
    }
}
