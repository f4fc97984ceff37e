//! Parses declarations of variables and parameters.

use super::{Name, Parser, Result};
use crate::fault::ParseError;
use crate::instruction::{Operand, Type};
use crate::lex::Token;
use crate::module::Variable;

/// The most bytes that one variable or all variables of a module may take. It is more than the
/// hardware has, and so small that no text can ask for all memory.
const MOST_BYTES: usize = 16 << 20;

impl<'a> Parser<'a> {
    /// `.space .align 4 .b8 name[128]`: the name, the alignment, the bytes (0 for `[]`).
    pub(super) fn declaration(&mut self) -> Result<(&'a str, usize, Option<usize>)> {
        self.word()?;
        let (mut align, mut ty) = (None, None);
        loop {
            let word = self.word()?;
            match word.strip_prefix('.') {
                Some("align") => align = Some(self.number()? as usize),
                Some(name) => match Type::parse(name) {
                    Some(found) => ty = Some(found),
                    None => {
                        return self.error(format!("`{word}` is not understood in a declaration"));
                    }
                },
                None => {
                    let Some(ty) = ty else { return self.error("the declaration has no type") };
                    let mut bytes = ty.bytes();
                    while self.take('[') {
                        let count = if let Some(Token::Number(_)) = self.peek() {
                            self.number()?
                        } else {
                            0
                        };
                        bytes = usize::try_from(count)
                            .ok()
                            .and_then(|count| bytes.checked_mul(count))
                            .filter(|bytes| *bytes <= MOST_BYTES)
                            .ok_or_else(|| {
                                ParseError::new(self.line(), "the variable is too large")
                            })?;
                        self.expect(']')?;
                    }
                    let align = align.unwrap_or(ty.bytes());
                    if !align.is_power_of_two() || align > 1 << 16 {
                        return self.error(format!("an alignment of {align}"));
                    }
                    return Ok((word, align, Some(bytes)));
                }
            }
        }
    }

    /// A variable in global or constant memory, with its initial content.
    pub(super) fn variable(&mut self) -> Result<()> {
        let start = self.at;
        let (name, align, size) = self.declaration()?;
        let mut bytes = Vec::new();
        if self.take('=') {
            let ty = self.tokens[start..self.at].iter().find_map(|(_, token)| match token {
                Token::Word(word) => word.strip_prefix('.').and_then(Type::parse),
                _ => None,
            });
            let width = ty.map_or(1, Type::bytes);
            let braces = self.take('{');
            loop {
                let negative = self.take('-');
                let number = self.number()?;
                let number = if negative { number.wrapping_neg() } else { number };
                bytes.extend_from_slice(&number.to_le_bytes()[..width]);
                if !self.take(',') {
                    break;
                }
            }
            if braces {
                self.expect('}')?;
            }
        }
        self.expect(';')?;
        let size = size.unwrap_or(0);
        if bytes.len() > size {
            return self.error("more values than elements");
        }
        bytes.resize(size, 0);
        let before: usize = self.variables.iter().map(|variable| variable.bytes.len()).sum();
        if before + size > MOST_BYTES {
            return self.error("the variables of the module are too large");
        }
        let operand = Operand::Variable(self.variables.len() as u32);
        self.variables.push(Variable { align: align as u64, bytes });
        self.scopes[0].insert(name, Name::Is(operand));
        Ok(())
    }
}
