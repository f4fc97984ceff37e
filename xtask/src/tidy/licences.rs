//! Checks that `deny.toml` allows every dependency's licence, even where `cargo deny` is not
//! installed.

use super::packages;
use crate::project::{self, Outcome};
use serde_json::Value;

/// The faults.
pub(super) fn check(metadata: &Value) -> Outcome<Vec<String>> {
    let deny = project::read("deny.toml")?;
    let allowed = allowed(&deny)?;
    let mut faults = Vec::new();
    for package in packages(metadata) {
        let (name, version) = (&package["name"], &package["version"]);
        let Some(licence) = package["license"].as_str() else {
            faults.push(format!("{name} {version}: states no licence"));
            continue;
        };
        if !permits(licence, &allowed) {
            faults.push(format!("{name} {version}: {licence} is not in deny.toml's list"));
        }
    }
    Ok(faults)
}

/// The licences that `deny.toml` lists under `allow`.
fn allowed(deny: &str) -> Outcome<Vec<&str>> {
    let (_, list) = deny.split_once("\nallow = [").ok_or("deny.toml: no `allow = […]`")?;
    let (list, _) = list.split_once(']').ok_or("deny.toml: `allow` is not closed")?;
    Ok(list.split('"').skip(1).step_by(2).collect())
}

/// Whether an SPDX expression can be satisfied by the allowed licences alone.
fn permits(expression: &str, allowed: &[&str]) -> bool {
    // Before SPDX 2.1 packages wrote `MIT/Apache-2.0` for a choice.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    choice(&mut words, allowed)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `conjunction (OR conjunction)*`
fn choice(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut any = conjunction(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        any |= conjunction(words, allowed);
    }
    any
}

/// `licence (AND licence)*`
fn conjunction(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut all = licence(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        all &= licence(words, allowed);
    }
    all
}

/// A name, a name `WITH` an exception, or an expression in parentheses.
fn licence(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => {
            let inner = choice(words, allowed);
            words.next_if_eq(&")");
            inner
        }
        Some(name) => {
            // An exception only grants more than the licence it is added to.
            if words.next_if_eq(&"WITH").is_some() {
                words.next();
            }
            allowed.contains(&name)
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::permits;

    #[test]
    fn reads_licence_expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
        for good in [
            "MIT",
            "MIT/GPL-3.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(permits(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", ""] {
            assert!(!permits(bad, &allowed), "{bad:?}");
        }
    }
}
