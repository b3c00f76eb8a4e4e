//! How much memory this machine has.

use std::sync::OnceLock;

/// Bytes of physical memory: a request beyond it is refused, where an allocation would end the process. Elsewhere than on
/// Linux an assumed 64 GiB.
pub fn memory() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let read = std::fs::read_to_string("/proc/meminfo").ok();
        let bytes = read.and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
            line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
        });
        bytes.unwrap_or(1 << 36).min(isize::MAX as u64)
    })
}
