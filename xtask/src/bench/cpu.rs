//! Describes the processor on which everything is measured.

use std::fs;

/// Flags, as Linux writes them, that say which kernels can run.
const TELLING: &[&str] = &[
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
];

/// The processor's name, family and model, and the instruction sets that matter here.
pub(super) fn describe() -> String {
    describe_from(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

fn describe_from(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let name = field("model name").unwrap_or_else(|| "unknown".into());
    let family = field("cpu family").zip(field("model"));
    let family = family.map(|(family, model)| format!(" (family {family}, model {model})"));
    let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
    let has: Vec<&str> = flags.split_whitespace().filter(|flag| TELLING.contains(flag)).collect();
    format!("{name}{}: {}", family.unwrap_or_default(), has.join(", "))
}

/// The size in bytes of the last shared cache; `None` if the system does not tell.
pub(super) fn last_cache() -> Option<usize> {
    let caches = "/sys/devices/system/cpu/cpu0/cache";
    let size = |index: u32| {
        let text = fs::read_to_string(format!("{caches}/index{index}/size")).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok().map(|kibibytes| kibibytes * 1024)
    };
    (0..5).filter_map(size).max()
}

#[cfg(test)]
mod tests {
    use super::describe_from;

    #[test]
    fn names_what_tells() {
        let text =
            "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nflags\t\t: fpu fma avx2 sse\n";
        assert_eq!(describe_from(text), "AMD EPYC (family 25, model 1): fma, avx2");
        assert_eq!(describe_from(""), "unknown: ");
    }
}
