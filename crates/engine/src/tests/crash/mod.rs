//! Crashes, broken disks and rotten files under the whole engine: all that was acknowledged is found, what is found is a
//! prefix in the order of revisions, nothing is there by half, and the engine works on.
//!
//! - `workload.rs`: what is done to the store, and all that was known of it after each step.
//! - `images.rs`: a crash after each call to the disk, with each image of the disk that it may leave, and a second crash
//!   while it recovers.
//! - `faults.rs`: each call fails, in turn; a disk that fills up.
//! - `full.rs`: a disk that is full, and a log that shrinks there.
//! - `rot.rs`: each byte of each file is changed, in turn.
//! - `bite.rs`: engines that are broken on purpose, to see that these checks notice.

mod bite;
mod faults;
mod full;
mod images;
mod rot;
mod workload;

/// Every how many images one is tried: `SYNOD_IMAGES=1` for all.
fn step() -> usize {
    std::env::var("SYNOD_IMAGES").map_or(101, |text| {
        let step = text.parse().ok().filter(|step| *step > 0);
        step.expect("SYNOD_IMAGES is every how many images one is tried: a number from 1 on")
    })
}
