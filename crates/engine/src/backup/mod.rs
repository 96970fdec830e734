//! Copies of a store: made of an open one while it goes on, looked at, and restored.
//!
//! A copy holds what was durable at one revision: the readable history, the leases, and what is kept beside the keys.
//!
//! ```text
//! offset  bytes
//!      0  8      "SYNODBAK"
//!      8  4      format version
//!     12  4      CRC-32 of bytes 0 to 11
//!     16  ...    chunks, as in a snapshot of the journal: length (4 bytes), CRC-32 of the CRC before, the length and
//!                the bytes (4 bytes), bytes
//!        16      length 0xFFFF_FFFF, CRC-32 of the CRC before and the count, count of the chunks (8 bytes)
//!        ...     zeros, up to a multiple of 512
//!    end  32     SHA-256 of everything before
//! ```
//!
//! So it is 32 bytes longer than a multiple of 512, which is how etcd's clients tell a whole copy from one that was cut
//! short. The content is Synod's own: a real etcd cannot restore it.
//!
//! - `export.rs`: making one. `read.rs`: reading one, with every check. `restore.rs`: a data directory from one.

mod export;
mod read;
mod restore;

pub use export::Export;
pub use read::{Backup, inspect};
pub use restore::restore;

const MAGIC: &[u8; 8] = b"SYNODBAK";
/// The version of what is around the records; they have one of their own.
const FORMAT: u32 = 1;
const HEADER: usize = 16;
/// What the length without the checksum is a multiple of.
const BLOCK: u64 = 512;
const SHA256: usize = 32;
