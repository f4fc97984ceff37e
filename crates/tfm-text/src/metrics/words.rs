//! How BLEU cuts a line into words.

use std::sync::LazyLock;

use regex::Regex;

use crate::whitespace::{strip, words};

/// The tokenisation that BLEU counts n-grams over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BleuTokenizer {
    /// `mteval-v13a`, the standard of WMT: punctuation apart, numbers whole, for Western scripts.
    #[default]
    V13a,
    /// `mteval-v14` with international tokenisation: punctuation and symbols of all of Unicode
    /// apart.
    International,
    /// Characters of Chinese are words; between them `V13a` without entities.
    Chinese,
    /// Every character is a word.
    Char,
    /// Words are what whitespace separates.
    None,
}

impl BleuTokenizer {
    /// Every one there is.
    pub const ALL: [Self; 5] =
        [Self::V13a, Self::International, Self::Chinese, Self::Char, Self::None];

    /// The name in signatures and on sacreBLEU's command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BleuTokenizer::V13a => "13a",
            BleuTokenizer::International => "intl",
            BleuTokenizer::Chinese => "zh",
            BleuTokenizer::Char => "char",
            BleuTokenizer::None => "none",
        }
    }

    /// The tokenizer with this [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tokenizer| tokenizer.name() == name)
    }

    /// The line with single spaces between words.
    #[must_use]
    pub fn tokenize(self, line: &str) -> String {
        match self {
            BleuTokenizer::V13a => v13a(line),
            BleuTokenizer::International => joined(&apply(&INTERNATIONAL, line.into())),
            BleuTokenizer::Chinese => {
                let apart = set_apart(strip(line), is_chinese);
                joined(&apply(&WESTERN, apart))
            }
            BleuTokenizer::Char => {
                let mut spaced = String::with_capacity(2 * line.len());
                for character in line.chars() {
                    spaced.push(character);
                    spaced.push(' ');
                }
                joined(&spaced)
            }
            BleuTokenizer::None => joined(line),
        }
    }
}

type Rules = Vec<(Regex, &'static str)>;

static WESTERN: LazyLock<Rules> = LazyLock::new(|| {
    rules(&[
        // ASCII punctuation, except apostrophe, comma, dash and full stop
        (r"([\{-~\[-` -&\(-\+:-@/])", " $1 "),
        // full stop and comma, unless after a digit
        (r"([^0-9])([.,])", "$1 $2 "),
        // full stop and comma, unless before a digit
        (r"([.,])([^0-9])", " $1 $2"),
        // dash after a digit
        (r"([0-9])(-)", "$1 $2 "),
    ])
});

static INTERNATIONAL: LazyLock<Rules> = LazyLock::new(|| {
    rules(&[
        // punctuation, unless after a digit
        (r"(\P{N})(\p{P})", "$1 $2 "),
        // punctuation, unless before a digit
        (r"(\p{P})(\P{N})", " $1 $2"),
        (r"(\p{S})", " $1 "),
    ])
});

fn rules(patterns: &[(&str, &'static str)]) -> Rules {
    let compile = |&(pattern, replacement)| {
        // `(?s)`: these patterns see a line break as any other character.
        (Regex::new(&format!("(?s){pattern}")).expect("a constant pattern"), replacement)
    };
    patterns.iter().map(compile).collect()
}

fn apply(rules: &[(Regex, &str)], line: String) -> String {
    rules.iter().fold(line, |line, (pattern, replacement)| {
        pattern.replace_all(&line, *replacement).into_owned()
    })
}

fn v13a(line: &str) -> String {
    let line = line.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    joined(&apply(&WESTERN, format!(" {} ", resolve_entities(line))))
}

/// The characters that four of XML's entities stand for.
pub(super) fn resolve_entities(mut line: String) -> String {
    if line.contains('&') {
        for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")]
        {
            line = line.replace(entity, character);
        }
    }
    line
}

/// Puts spaces around those characters that are words by themselves.
pub(super) fn set_apart(line: &str, alone: impl Fn(char) -> bool) -> String {
    let mut apart = String::with_capacity(line.len());
    for character in line.chars() {
        if alone(character) {
            apart.extend([' ', character, ' ']);
        } else {
            apart.push(character);
        }
    }
    apart
}

/// What sacreBLEU takes for Chinese. It means ideographs outside the first plane too, but writes
/// them so that Python reads U+2001 to U+2A6D: punctuation, letterlike forms, arrows, mathematics.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}' // unified ideographs
        | '\u{f900}'..='\u{fa2d}' | '\u{fa30}'..='\u{fa6a}' | '\u{fa70}'..='\u{fad9}' // older forms
        | '\u{2001}'..='\u{2a6d}'
        | '\u{2e80}'..='\u{2eff}' | '\u{2f00}'..='\u{2fdf}' // radicals
        | '\u{2ff0}'..='\u{303f}' | '\u{31c0}'..='\u{31ef}' // descriptions, marks, strokes
        | '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' // bopomofo
        | '\u{fe10}'..='\u{fe1f}' | '\u{fe30}'..='\u{fe4f}' // vertical forms
        | '\u{3200}'..='\u{33ff}' // in circles and squares
        | '\u{ff00}'..='\u{ffef}' // full and half width
    )
}

/// The rules of [`BleuTokenizer::V13a`], and one more: the `'s` of English is a word.
pub(super) fn western_with_possessives(line: String) -> String {
    let (first, others) = WESTERN.split_at(1);
    apply(others, apply(first, line).replace("'s ", " 's "))
}

fn joined(line: &str) -> String {
    let mut joined = String::with_capacity(line.len());
    for word in words(line) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}
