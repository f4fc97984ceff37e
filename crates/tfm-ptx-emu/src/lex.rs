//! Splits text into tokens.

use crate::fault::ParseError;

/// A token of PTX.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    /// A name, a directive or an opcode: `%tid.x`, `.reg`, `ld.global.f32`, `$L__BB0_1`.
    Word(&'a str),
    /// A literal's bits.
    Number(u64),
    /// Anything else.
    Sign(char),
    /// Text between quotation marks.
    Text,
}

/// The tokens with their lines, without comments.
pub(crate) fn tokens(text: &str) -> Result<Vec<(u32, Token<'_>)>, ParseError> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (taken, token) = match first {
            _ if first.is_whitespace() => (first.len_utf8(), None),
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            '/' if rest.starts_with("/*") => {
                let end = rest.find("*/").ok_or(ParseError::new(line, "the comment has no end"))?;
                (end + 2, None)
            }
            '"' => {
                let end =
                    rest[1..].find('"').ok_or(ParseError::new(line, "the text has no end"))?;
                (end + 2, Some(Token::Text))
            }
            '0'..='9' => {
                let len = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                let word = &rest[..len];
                let number = number(word)
                    .ok_or_else(|| ParseError::new(line, format!("`{word}` is no number")))?;
                (len, Some(Token::Number(number)))
            }
            _ if is_name(first) => {
                let len = name_length(rest);
                (len, Some(Token::Word(&rest[..len])))
            }
            _ => (first.len_utf8(), Some(Token::Sign(first))),
        };
        tokens.extend(token.map(|token| (line, token)));
        line += rest[..taken].matches('\n').count() as u32;
        rest = &rest[taken..];
    }
    Ok(tokens)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%' | '.')
}

/// The length of the name at the start. `::` is part of a name, the colon of a label is not.
fn name_length(text: &str) -> usize {
    let mut len = 0;
    loop {
        let part = text[len..].find(|c: char| !is_name(c)).unwrap_or(text.len() - len);
        len += part;
        let after = &text[len..];
        if !after.starts_with("::") || !after[2..].starts_with(is_name) {
            return len;
        }
        len += 2;
    }
}

/// The bits of a literal: decimal, `0x…`, `0…` (octal), `0f…` and `0d…`, with or without `U`.
fn number(word: &str) -> Option<u64> {
    let lower = word.to_ascii_lowercase();
    if let Some(bits) = lower.strip_prefix("0f").or(lower.strip_prefix("0d")) {
        return u64::from_str_radix(bits, 16).ok();
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    if let Some(digits) = digits.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_signs() {
        let found = tokens("$L_1: @!%p1 ld.global.L2::128B.f32 %f1, [%rd2+0x10]; // no\n-5U \"a\"");
        let found: Vec<_> = found.unwrap().into_iter().map(|(_, token)| token).collect();
        let word = Token::Word;
        let sign = Token::Sign;
        let expected = [
            word("$L_1"),
            sign(':'),
            sign('@'),
            sign('!'),
            word("%p1"),
            word("ld.global.L2::128B.f32"),
            word("%f1"),
            sign(','),
            sign('['),
            word("%rd2"),
            sign('+'),
            Token::Number(16),
            sign(']'),
            sign(';'),
            sign('-'),
            Token::Number(5),
            Token::Text,
        ];
        assert_eq!(found, expected);
        assert_eq!(number("0f3F800000"), Some(1.0f32.to_bits().into()));
        assert!(tokens("/* never").is_err() && tokens("09z").is_err());
    }
}
