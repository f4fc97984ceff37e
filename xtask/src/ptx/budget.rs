//! Checks what the assembler makes of the PTX: registers stay within the written budget, nothing is
//! spilled, and products use tensor cores where they should.

use crate::project::{Outcome, read, root};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The file of budgets, one line a kernel: its name, in which `*` stands for anything, and the most
/// registers. `HMMA` or `IMMA` follows if it multiplies numbers of 16 bits or integers by
/// `mma.sync`, and `STACK` if it may index memory of its own. The first line that fits counts.
const BUDGET: &str = "crates/tfm-cuda/kernels/budget.txt";
const ARCHITECTURES: [&str; 4] = ["sm_80", "sm_86", "sm_89", "sm_90"];
/// The instructions of tensor cores.
const PRODUCTS: [&str; 2] = ["HMMA", "IMMA"];
/// The architectures whose machine code is examined.
const DISASSEMBLED: [&str; 2] = ["sm_80", "sm_90"];

struct Budget<'a> {
    pattern: &'a str,
    registers: u32,
    product: Option<&'a str>,
    stack: bool,
}

/// What a kernel uses, according to the assembler.
#[derive(Debug, Default, PartialEq)]
struct Use {
    registers: u32,
    /// Bytes of the stack frame.
    stack: u32,
    /// Bytes of registers that are spilled to the stack.
    spilled: u32,
}

/// Assembles PTX for every architecture and checks the kernels against the budget. `tools` is the
/// folder of the compiler's programs.
pub(super) fn check(tools: &Path, ptx: &[PathBuf]) -> Outcome {
    let text = read(Path::new(BUDGET))?;
    let budget = parse(&text)?;
    let mut faults = Vec::new();
    for file in ptx {
        let children = ARCHITECTURES.map(|architecture| {
            let cubin = root().join("target").join(format!("kernel.{architecture}.cubin"));
            let mut assemble = Command::new(tools.join("ptxas"));
            assemble.args(["-v", "-arch", architecture]).arg(root().join(file));
            assemble.arg("-o").arg(&cubin).stdout(Stdio::piped()).stderr(Stdio::piped());
            (architecture, cubin, assemble.spawn())
        });
        for (architecture, cubin, child) in children {
            let failed =
                |problem: String| format!("{} for {architecture}: {problem}", file.display());
            let output = child.and_then(|child| child.wait_with_output());
            let said = text_of(output).map_err(failed)?;
            let uses = read_uses(&said);
            let mut disassembled = None;
            for (kernel, found) in &uses {
                let Some(allowed) = budget.iter().find(|line| fits(line.pattern, kernel)) else {
                    faults.push(format!("{kernel}: {BUDGET} has no line for it"));
                    continue;
                };
                let Use { registers, stack, spilled } = *found;
                if registers > allowed.registers || spilled > 0 || (stack > 0 && !allowed.stack) {
                    let most = allowed.registers;
                    faults.push(format!(
                        "{kernel} on {architecture}: {registers} registers of {most}, {spilled} bytes spilled, {stack} of stack"
                    ));
                }
                if let Some(product) = allowed.product
                    && DISASSEMBLED.contains(&architecture)
                {
                    if disassembled.is_none() {
                        let mut command = Command::new(tools.join("nvdisasm"));
                        let code = text_of(command.arg(&cubin).output()).map_err(failed)?;
                        disassembled = Some(products(&code));
                    }
                    let found = disassembled.as_ref().and_then(|found| found.get(kernel));
                    if found.is_none_or(|found| !found.contains(product)) {
                        faults.push(format!("{kernel} on {architecture}: no {product}"));
                    }
                }
            }
            if uses.is_empty() {
                return Err(failed("the assembler tells of no kernel".into()));
            }
            std::fs::remove_file(&cubin).map_err(|e| failed(e.to_string()))?;
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The text that a program printed.
fn text_of(output: std::io::Result<Output>) -> Outcome<String> {
    let output = output.map_err(|e| e.to_string())?;
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    if output.status.success() { Ok(format!("{out}{err}")) } else { Err(err.into_owned()) }
}

fn parse(text: &str) -> Outcome<Vec<Budget<'_>>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong =
                || format!("{BUDGET}: `{line}` is not a pattern and a number, HMMA or IMMA, STACK");
            let [pattern, registers, more @ ..] = &words[..] else { return Err(wrong()) };
            if more.iter().any(|word| *word != "STACK" && !PRODUCTS.contains(word)) {
                return Err(wrong());
            }
            Ok(Budget {
                pattern,
                registers: registers.parse().map_err(|_| wrong())?,
                product: more.iter().copied().find(|word| PRODUCTS.contains(word)),
                stack: more.contains(&"STACK"),
            })
        })
        .collect()
}

/// Whether a name fits a pattern, in which each `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(rest, &name[at..]))
        }),
    }
}

/// Registers and stack of each kernel, from what `ptxas -v` prints.
fn read_uses(said: &str) -> HashMap<String, Use> {
    let mut uses: HashMap<String, Use> = HashMap::new();
    let mut kernel = String::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let before = |what: &str| {
            let at = words.iter().position(|word| word.trim_end_matches(',') == what)?;
            words.get(at.checked_sub(1)?)?.parse::<u32>().ok()
        };
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or_default().into();
            uses.entry(kernel.clone()).or_default();
        } else if line.contains("bytes stack frame")
            && let (Some(found), Some(stack)) = (uses.get_mut(&kernel), before("bytes"))
        {
            found.stack = stack;
            let number = |what: &str| line.split_once(what)?.0.rsplit(' ').nth(2)?.parse().ok();
            found.spilled =
                number("spill stores").unwrap_or(0).max(number("spill loads").unwrap_or(0));
        } else if line.contains("Used ")
            && let (Some(found), Some(registers)) = (uses.get_mut(&kernel), before("registers"))
        {
            found.registers = registers;
        }
    }
    uses
}

/// The tensor-core instructions of each kernel, from what `nvdisasm` prints.
fn products(code: &str) -> HashMap<String, HashSet<&'static str>> {
    let mut found: HashMap<String, HashSet<&'static str>> = HashMap::new();
    let mut kernel = String::new();
    for line in code.lines() {
        if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            kernel = name.into();
        } else if let Some(product) = PRODUCTS.into_iter().find(|name| line.contains(name)) {
            found.entry(kernel.clone()).or_default().insert(product);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_assembler_prints() {
        let said = "ptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'a_f16' for 'sm_80'\n\
            ptxas info    : Function properties for a_f16\n\
            \x20   8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n\
            ptxas info    : Used 168 registers, used 1 barriers, 520 bytes cmem[0]\n";
        let uses = read_uses(said);
        assert_eq!(uses["a_f16"], Use { registers: 168, stack: 8, spilled: 4 });
        let code = ".text.a_f16:\n  /*0*/ HMMA.16816.F32 R1, R2 ;\n.text.b:\n /*0*/ EXIT ;\n";
        assert_eq!(products(code).get("a_f16"), Some(&HashSet::from(["HMMA"])));
        assert_eq!(products(code).get("b"), None);
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let lines = parse("# a comment\na_*_64 100 HMMA\na_* 64 STACK IMMA\n* 255\n").unwrap();
        let find = |name| lines.iter().find(|line| fits(line.pattern, name)).unwrap();
        assert!(find("a_f16_64").product == Some("HMMA") && find("a_f16_64").registers == 100);
        assert!(find("a_f16_32").product == Some("IMMA") && find("a_f16_32").stack);
        assert!(find("b").product.is_none() && find("b").registers == 255);
        assert!(parse("a_*_64").is_err());
    }
}
