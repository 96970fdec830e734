//! How much memory a process holds, mapped files counted.

use std::fs;

use anyhow::{Context, Result};

/// Resident bytes.
pub(super) fn resident(pid: u64) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let status = || fs::read_to_string(format!("/proc/{pid}/status"));
    let text = rollup
        .or_else(|_| status())
        .context("no such process, or no /proc")?;
    parse(&text).context("no resident size in /proc")
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("Rss:")
            .or_else(|| line.strip_prefix("VmRSS:"))
    })?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_resident_size_is_read() {
        assert_eq!(
            super::parse("00-ff rollup\nRss:        12 kB\nPss: 1 kB\n"),
            Some(12 << 10)
        );
        assert_eq!(super::parse("Name: x\nVmRSS:\t  5 kB\n"), Some(5 << 10));
        assert_eq!(super::parse("nothing"), None);
    }
}
