//! Parses operands and resolves the names in them.

use super::{Name, Parser, Result};
use crate::decode::Argument;
use crate::instruction::{Address, Operand, Operands, Special};
use crate::lex::Token;

impl Parser<'_> {
    /// Resolves a name.
    pub(super) fn lookup(&self, word: &str) -> Result<Operand> {
        match word {
            "_" => return Ok(Operand::Sink),
            "WARP_SZ" => return Ok(Operand::Immediate(32)),
            _ => {}
        }
        let digits = word.len() - word.bytes().rev().take_while(u8::is_ascii_digit).count();
        for scope in self.scopes.iter().rev() {
            if let Some(Name::Is(operand)) = scope.get(word) {
                return Ok(*operand);
            }
            if let Some(Name::Family { first, count }) = scope.get(&word[..digits])
                && let Ok(number) = word[digits..].parse::<u32>()
                && number < *count
            {
                return Ok(Operand::Register(first + number));
            }
        }
        if let Some(special) = special(word) {
            return Ok(Operand::Special(special));
        }
        self.error(format!("`{word}` is not declared"))
    }

    pub(super) fn argument(&mut self) -> Result<Argument> {
        if self.take('[') {
            let address = self.address()?;
            if self.take(',') {
                self.expect('{')?;
                let at = self.parts()?;
                self.expect(']')?;
                return Ok(Argument::Tile(address, at));
            }
            self.expect(']')?;
            return Ok(Argument::Address(address));
        }
        if self.take('{') {
            return Ok(Argument::Vector(self.parts()?));
        }
        if self.take('!') {
            return Ok(Argument::Negated(self.operand()?));
        }
        let operand = self.operand()?;
        if self.take('|') {
            return Ok(Argument::Pair(operand, self.operand()?));
        }
        Ok(Argument::One(operand))
    }

    /// Parses what follows an opening brace.
    fn parts(&mut self) -> Result<Operands> {
        let mut parts = Operands::new();
        while !self.take('}') {
            parts.push(self.operand()?);
            self.take(',');
        }
        Ok(parts)
    }

    fn operand(&mut self) -> Result<Operand> {
        if self.take('-') {
            return Ok(Operand::Immediate(self.number()?.wrapping_neg()));
        }
        match self.peek() {
            Some(Token::Number(number)) => {
                self.at += 1;
                Ok(Operand::Immediate(number))
            }
            _ => {
                let word = self.word()?;
                let operand = self.lookup(word)?;
                match operand {
                    // `variable + 16`
                    Operand::Immediate(start) if self.take('+') => {
                        Ok(Operand::Immediate(start.wrapping_add(self.number()?)))
                    }
                    operand => Ok(operand),
                }
            }
        }
    }

    fn address(&mut self) -> Result<Address> {
        let base = self.operand()?;
        let offset = if self.take('+') {
            let negative = self.take('-');
            let number = self.number()? as i64;
            if negative { -number } else { number }
        } else if self.take('-') {
            -(self.number()? as i64)
        } else {
            0
        };
        Ok(Address { base, offset })
    }
}

fn special(word: &str) -> Option<Special> {
    let axis = |name: &str| match name {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((name, last)) = word.split_once('.') {
        let axis = axis(last)?;
        return Some(match name {
            "%tid" => Special::Thread(axis),
            "%ntid" => Special::Threads(axis),
            "%ctaid" => Special::Block(axis),
            "%nctaid" => Special::Blocks(axis),
            _ => return None,
        });
    }
    Some(match word {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%lanemask_lt" => Special::LanesBelow,
        "%lanemask_le" => Special::LanesUpTo,
        "%lanemask_gt" => Special::LanesAbove,
        "%lanemask_ge" => Special::LanesFrom,
        "%lanemask_eq" => Special::ThisLane,
        "%clock" | "%clock64" => Special::Clock,
        "%dynamic_smem_size" => Special::SharedSize,
        _ => return None,
    })
}
