//! Text to the form that pieces are cut from: rules applied, spaces trimmed and written as `▁`.

use super::{
    charsmap::CharsMap,
    proto::NormalizerSpec,
    utf8::{announced_len, valid_len},
};
use crate::trie::Trie;

/// U+2581, which stands for a space inside pieces.
pub(crate) const SPACE_SYMBOL: &[u8] = "▁".as_bytes();
const REPLACEMENT_CHARACTER: &[u8] = "\u{fffd}".as_bytes();

#[derive(Debug)]
pub(crate) struct Normalizer {
    charsmap: Option<CharsMap>,
    /// Symbols that are kept as they are written.
    user_defined: Option<Trie>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    space: &'static [u8],
    whitespace_as_suffix: bool,
    /// ASCII bytes that stay themselves if ASCII or the end follows: most of most texts.
    plain: [bool; 256],
}

impl Normalizer {
    pub(crate) fn new(
        spec: &NormalizerSpec,
        whitespace_as_suffix: bool,
        user_defined: Option<Trie>,
    ) -> Result<Self, String> {
        let charsmap = match spec.precompiled_charsmap.as_slice() {
            [] => None,
            blob => Some(CharsMap::parse(blob)?),
        };
        let plain = std::array::from_fn(|byte| {
            let byte = byte as u8;
            byte < 0x80
                && byte != b' '
                && charsmap.as_ref().is_none_or(|map| map.keeps_ascii(byte))
                && user_defined.as_ref().is_none_or(|symbols| !symbols.starts_with(byte))
        });
        Ok(Normalizer {
            charsmap,
            user_defined,
            add_dummy_prefix: spec.add_dummy_prefix,
            remove_extra_whitespaces: spec.remove_extra_whitespaces,
            space: if spec.escape_whitespaces { SPACE_SYMBOL } else { b" " },
            whitespace_as_suffix,
            plain,
        })
    }

    /// Whether decoding drops the space that normalisation may have put in front.
    pub(crate) const fn leading_space(&self) -> LeadingSpace {
        match (self.add_dummy_prefix, self.remove_extra_whitespaces) {
            (_, true) => LeadingSpace::DropAll,
            (true, false) => LeadingSpace::DropOne,
            (false, false) => LeadingSpace::Keep,
        }
    }

    pub(crate) fn normalize(&self, text: &[u8]) -> Vec<u8> {
        let mut input = text;
        if self.remove_extra_whitespaces {
            while let (b" ", read) = self.next(input) {
                input = &input[read..];
            }
        }
        if input.is_empty() {
            return Vec::new();
        }
        let mut output = Vec::with_capacity(input.len() + input.len() / 2 + 2 * self.space.len());
        if self.add_dummy_prefix && !self.whitespace_as_suffix {
            output.extend_from_slice(self.space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !input.is_empty() {
            let run = self.plain_run(input);
            if run > 0 {
                output.extend_from_slice(&input[..run]);
                input = &input[run..];
                after_space = false;
                continue;
            }
            let (mut written, read) = self.next(input);
            input = &input[read..];
            if after_space {
                let spaces = written.iter().take_while(|&&byte| byte == b' ').count();
                written = &written[spaces..];
            }
            for part in written.split_inclusive(|&byte| byte == b' ') {
                match part {
                    [head @ .., b' '] => {
                        output.extend_from_slice(head);
                        output.extend_from_slice(self.space);
                    }
                    _ => output.extend_from_slice(part),
                }
            }
            if let Some(&last) = written.last() {
                after_space = self.remove_extra_whitespaces && last == b' ';
            }
        }
        if self.remove_extra_whitespaces {
            while output.ends_with(self.space) {
                output.truncate(output.len() - self.space.len());
            }
        }
        if self.add_dummy_prefix && self.whitespace_as_suffix {
            output.extend_from_slice(self.space);
        }
        output
    }

    /// How many bytes at the start of `input` are plain.
    #[inline]
    fn plain_run(&self, input: &[u8]) -> usize {
        let run = input.iter().take_while(|&&byte| self.plain[usize::from(byte)]).count();
        match input.get(run) {
            // A plain byte may still begin a rule that goes on with this one (a letter and its
            // accent).
            Some(next) if *next >= 0x80 => run.saturating_sub(1),
            _ => run,
        }
    }

    /// What the start of `input` becomes, and how many of its bytes that takes up. `([], 0)` at the
    /// end.
    fn next<'a>(&'a self, input: &'a [u8]) -> (&'a [u8], usize) {
        if let Some((len, _)) = self.user_defined.as_ref().and_then(|s| s.longest_prefix(input)) {
            return (&input[..len], len);
        }
        if let Some((read, written)) = self.charsmap.as_ref().and_then(|m| m.longest_match(input)) {
            return (written, read);
        }
        match valid_len(input) {
            Some(len) => (&input[..len], len),
            None => (REPLACEMENT_CHARACTER, 1.min(input.len())),
        }
    }

    /// Whether there are user-defined symbols.
    pub(crate) const fn has_symbols(&self) -> bool {
        self.user_defined.is_some()
    }

    /// Where the words of a normalised text begin and end. A word has its spaces in front, or
    /// behind it where the model writes them so.
    pub(crate) fn words<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = (usize, usize)> + 't {
        let space = self.space;
        let suffix = self.whitespace_as_suffix;
        let mut begin = 0;
        std::iter::from_fn(move || {
            if begin >= text.len() {
                return None;
            }
            let spaces = |mut at: usize| {
                while text[at..].starts_with(space) {
                    at += space.len();
                }
                at
            };
            let letters = |at: usize| {
                let found = text[at..].windows(space.len()).position(|bytes| bytes == space);
                found.map_or(text.len(), |found| at + found)
            };
            let word = begin;
            begin = if suffix { spaces(letters(begin)) } else { letters(spaces(begin)) };
            Some((word, begin))
        })
    }

    /// The longest user-defined symbol that `text` starts with, else one character: its length, and
    /// whether it is such a symbol. Not for an empty text.
    pub(crate) fn symbol_or_char(&self, text: &[u8]) -> (usize, bool) {
        match self.user_defined.as_ref().and_then(|symbols| symbols.longest_prefix(text)) {
            Some((len, _)) => (len, true),
            None => (announced_len(text[0]).min(text.len()), false),
        }
    }
}

/// What decoding does with spaces at the beginning of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeadingSpace {
    Keep,
    DropOne,
    DropAll,
}
