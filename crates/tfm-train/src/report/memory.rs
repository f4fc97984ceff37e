//! The memory that the program has taken, and that it may take.

/// The most memory that the program has held at once, in bytes. `None` where the operating system
/// does not tell: only Linux does.
pub fn peak_memory() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// How many bytes the program may still take, with what can be swapped out. `None` where the
/// operating system does not tell: only Linux does.
pub(crate) fn available_memory() -> Option<u64> {
    let system = free(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = std::fs::read_to_string("/proc/self/limits").ok();
    let limit = limits.and_then(|limits| address_space(&limits));
    Some(limit.map_or(system, |limit| limit.min(system)))
}

/// What `/proc/meminfo` says.
fn free(memory: &str) -> Option<u64> {
    let kibibytes = |name: &str| -> Option<u64> {
        let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let all = kibibytes("MemAvailable:")?.checked_add(kibibytes("SwapFree:").unwrap_or(0))?;
    all.checked_mul(1024)
}

/// What `/proc/self/limits` says; `None` where there is no limit.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
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
    fn what_is_left_is_the_least_of_what_bounds_it() {
        assert_eq!(free("MemAvailable:  100 kB\nSwapFree:  20 kB\n"), Some(120 << 10));
        assert_eq!(free("MemAvailable: 3 kB\n"), Some(3 << 10));
        assert_eq!(free("MemFree: 3 kB\n"), None);
        let limits = "Max open files  1024  4096  files\nMax address space  4096  8192  bytes\n";
        assert_eq!(address_space(limits), Some(4096));
        assert_eq!(address_space("Max address space  unlimited  unlimited  bytes\n"), None);
        if cfg!(target_os = "linux") {
            assert!(available_memory().unwrap() > 1 << 20);
        }
    }

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
