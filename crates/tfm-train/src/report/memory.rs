//! The most memory that the program has taken.

/// The most memory that the program has held at once, in bytes. `None` where the operating system
/// does not tell: only Linux does.
pub fn peak_memory() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stands_in_kibibytes() {
        assert_eq!(parse("Name:\ttfm\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n"), Some(2 << 20));
        assert_eq!(parse("Name:\ttfm\n"), None);
        assert_eq!(parse("VmHWM: many kB"), None);
        if cfg!(target_os = "linux") {
            assert!(peak_memory().unwrap() > 1 << 20);
        }
    }
}
