//! The arguments as the parser takes them: what a person means by them is plain, and not to it.

use crate::render::Alignments;
use clap::ValueEnum;
use std::ffi::OsString;

/// A character for private use. It stands before text that is no option.
const MARK: char = '\u{F8FF}';

/// The arguments of this process.
pub(crate) fn read() -> Vec<OsString> {
    prepared(std::env::args_os())
}

/// Marks arguments that begin with a dash and white space, which are text, as in a dialogue; and
/// joins `--alignments` with the value behind it, if there is one.
fn prepared(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut prepared: Vec<OsString> = Vec::new();
    for argument in arguments {
        match argument.to_str() {
            Some(text) if is_dialogue(text) => prepared.push(format!("{MARK}{text}").into()),
            Some(value)
                if prepared.last().is_some_and(|last| last == "--alignments")
                    && Alignments::from_str(value, false).is_ok() =>
            {
                prepared.pop();
                prepared.push(format!("--alignments={value}").into());
            }
            _ => prepared.push(argument),
        }
    }
    prepared
}

fn is_dialogue(text: &str) -> bool {
    let rest = text.trim_start_matches('-');
    rest.len() < text.len() && rest.starts_with(char::is_whitespace)
}

/// An argument that is text, without its mark.
pub(crate) fn text(argument: &str) -> Result<String, std::convert::Infallible> {
    Ok(argument.strip_prefix(MARK).unwrap_or(argument).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{prepared, text};

    fn strings(arguments: &[&str]) -> Vec<String> {
        let arguments = prepared(arguments.iter().map(Into::into));
        arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn text_that_begins_with_a_dash_is_text() {
        for dialogue in ["- Hello", "-- Hello", "-\u{a0}Oui"] {
            let marked = strings(&[dialogue]).remove(0);
            assert!(!marked.starts_with('-'));
            assert_eq!(text(&marked).unwrap(), dialogue);
        }
        let others = ["-", "--", "-i", "--beam=4", "a - b", "-5"];
        assert_eq!(strings(&others), others);
    }

    #[test]
    fn alignments_may_have_a_value() {
        assert_eq!(strings(&["--alignments", "words", "Hi."]), ["--alignments=words", "Hi."]);
        assert_eq!(strings(&["--alignments", "Hi."]), ["--alignments", "Hi."]);
        assert_eq!(strings(&["words", "--alignments"]), ["words", "--alignments"]);
    }
}
