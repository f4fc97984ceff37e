//! Checks what a source file holds: how long it is, where `unsafe` stands, and that no note of
//! unfinished work is left.

use crate::project::{self, Outcome};
use std::path::{Path, PathBuf};

/// The most lines of a file of a crate's `src`: a file has one job, and its name tells it.
const MOST_LINES: usize = 400;

/// The most lines of any other file, such as tests.
const MOST_LINES_ELSEWHERE: usize = 500;

/// Where `unsafe` may stand: in kernels, in what calls the CUDA driver or acts as one, and in the
/// mapping of weight files.
const UNSAFE_MAY_STAND_IN: &[&str] = &[
    // These run single instructions, to measure how many a second the CPU executes.
    "benches/src/peaks/kernels.rs",
    "crates/tfm-cli/src/standard_output.rs",
    "crates/tfm-cpu/src/kernels/",
    "crates/tfm-cuda/src/",
    "crates/tfm-cuda/tests/instructions.rs",
    "crates/tfm-fake-cublaslt/src/library.rs",
    "crates/tfm-fake-driver/src/driver.rs",
    "crates/tfm-fake-driver/tests/",
    // This process forks itself.
    "crates/tfm/tests/fork.rs",
    "crates/tfm-model/src/checkpoint/mmap.rs",
];

/// Signs of unfinished work, each in two halves so that this file does not contain them.
const UNFINISHED: &[(&str, &str)] = &[
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X"),
    ("todo", "!"),
    ("unimplemented", "!"),
    ("#[igno", "re"),
    ("dbg", "!("),
];

/// The faults.
pub(super) fn check(files: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut faults = Vec::new();
    for file in files {
        let rust = has_extension(file, "rs");
        if !rust && !has_extension(file, "py") {
            continue;
        }
        let source = project::read(file)?;
        let at = |line: usize| format!("{}:{}", file.display(), line + 1);
        let count = source.lines().count();
        let most = most_lines(file);
        if count > most {
            faults.push(format!("{}: {count} lines; split it ({most} at most)", at(0)));
        }
        let may_be_unsafe = UNSAFE_MAY_STAND_IN.iter().any(|place| file.starts_with(place));
        for (number, line) in source.lines().enumerate() {
            for (half, other) in UNFINISHED {
                if line.contains(&format!("{half}{other}")) {
                    faults.push(format!("{}: `{half}{other}`: finish it", at(number)));
                }
            }
            if rust && !may_be_unsafe && has_unsafe(line) {
                faults.push(format!(
                    "{}: `unsafe` may stand in kernels, drivers and mappings alone",
                    at(number)
                ));
            }
        }
    }
    Ok(faults)
}

/// The most lines that a file may have.
fn most_lines(file: &Path) -> usize {
    let mut parts = file.iter();
    let of_a_crate = parts.next().is_some_and(|part| part == "crates");
    let is_source = of_a_crate && parts.nth(1).is_some_and(|part| part == "src");
    if is_source { MOST_LINES } else { MOST_LINES_ELSEWHERE }
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

/// Whether the code in a line, without its comment, opens something unsafe.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["{", "fn ", "impl ", "extern ", "trait "].iter().any(|what| {
        let keyword = ["unsafe", what].join(" ");
        code.contains(&keyword)
    })
}

#[cfg(test)]
mod tests {
    use super::{MOST_LINES, MOST_LINES_ELSEWHERE, has_unsafe, most_lines};
    use std::path::Path;

    #[test]
    fn sources_of_crates_are_shorter_than_tests() {
        assert_eq!(most_lines(Path::new("crates/tfm-model/src/config/mod.rs")), MOST_LINES);
        let test = Path::new("crates/tfm-model/tests/families.rs");
        assert_eq!(most_lines(test), MOST_LINES_ELSEWHERE);
    }

    #[test]
    fn tells_code_from_comments() {
        let opening = ["unsafe", "{ read() }"].join(" ");
        assert!(has_unsafe(&format!("let x = {opening};")));
        assert!(!has_unsafe(&format!("// {opening}")));
        assert!(!has_unsafe("#![deny(unsafe_op_in_unsafe_fn)]"));
    }
}
