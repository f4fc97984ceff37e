//! How BLEU cuts a line into words.

use std::sync::LazyLock;

use regex::Regex;

use crate::whitespace::words;

/// The tokenisation that BLEU counts n-grams over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BleuTokenizer {
    /// `mteval-v13a`, the standard of WMT: punctuation apart, numbers whole, for Western scripts.
    #[default]
    V13a,
    /// `mteval-v14` with international tokenisation: punctuation and symbols of all of Unicode
    /// apart.
    International,
    /// Every character is a word.
    Char,
    /// Words are what whitespace separates.
    None,
}

impl BleuTokenizer {
    /// The name in signatures and on sacreBLEU's command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BleuTokenizer::V13a => "13a",
            BleuTokenizer::International => "intl",
            BleuTokenizer::Char => "char",
            BleuTokenizer::None => "none",
        }
    }

    /// The tokenizer with this [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::V13a, Self::International, Self::Char, Self::None]
            .into_iter()
            .find(|tokenizer| tokenizer.name() == name)
    }

    /// The line with single spaces between words.
    #[must_use]
    pub fn tokenize(self, line: &str) -> String {
        match self {
            BleuTokenizer::V13a => v13a(line),
            BleuTokenizer::International => joined(&apply(&INTERNATIONAL, line.into())),
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
