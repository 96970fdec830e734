//! Randomness and time that follow from the seed, for everything in the simulation's thread.
//!
//! Hash maps, tokio's `select!`, jitter and generated ids ask the operating system for randomness, and `Instant` and
//! `SystemTime` for the time, each in a crate of its own. Instead of a seam in every one of them this program brings the
//! two functions of the C library through which all of them go: in the simulation's thread they answer from the seed and
//! from virtual time, in any other thread they ask the kernel. One process runs one seed, so nothing of an earlier run
//! is left over.

#![expect(
    unsafe_code,
    reason = "functions of the C library can be given another body in no other way"
)]

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime as system_time};

thread_local! {
    /// The state of the generator; `None` outside of the simulation.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Where virtual time begins: as any machine, this one was started a while ago.
const BOOT: Duration = Duration::from_secs(1_000);
/// Seconds since 1970 at that moment.
const EPOCH: u64 = 1_790_000_000;

/// From now on this thread's randomness and time are virtual.
pub(crate) fn begin(seed: u64) {
    STATE.set(Some(seed));
}

/// Virtual time goes on.
pub(crate) fn set_now(now: Duration) {
    NOW.set(now);
}

/// Virtual time since the begin.
pub(crate) fn now() -> Duration {
    NOW.get()
}

/// splitmix64: passes all tests of randomness, and fits on a line.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In the place of the C library's function of this name.
///
/// # Safety
///
/// As there: `buffer` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: so the caller promises; the bytes need not be initialised, as they are only written.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    match STATE.get() {
        Some(mut state) => {
            for piece in bytes.chunks_mut(8) {
                piece.copy_from_slice(&next(&mut state).to_le_bytes()[..piece.len()]);
            }
            STATE.set(Some(state));
            length as isize
        }
        None => rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())
            .map_or(-1, |got| got as isize),
    }
}

/// Seconds and nanoseconds, as the C library has them on 64-bit Linux.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Timespec {
    seconds: i64,
    nanos: i64,
}

/// In the place of the C library's function of this name.
///
/// # Safety
///
/// As there: `time` may be written to.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let is_wall = clock == 0;
    let answer = if STATE.get().is_some() {
        let now = NOW.get() + BOOT;
        let since = if is_wall { EPOCH } else { 0 };
        Timespec {
            seconds: (now.as_secs() + since) as i64,
            nanos: i64::from(now.subsec_nanos()),
        }
    } else {
        let clock = if is_wall {
            ClockId::Realtime
        } else {
            ClockId::Monotonic
        };
        let now = system_time(clock);
        Timespec {
            seconds: now.tv_sec,
            nanos: now.tv_nsec,
        }
    };
    // SAFETY: so the caller promises.
    unsafe { time.write(answer) };
    0
}
