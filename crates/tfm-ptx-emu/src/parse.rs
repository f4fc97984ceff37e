//! Parses text to a module.

mod kernel;
mod operands;
mod registers;
mod variables;

use std::collections::{BTreeMap, HashMap};

use crate::fault::ParseError;
use crate::instruction::{Operand, Special};
use crate::lex::{Token, tokens};
use crate::module::{Module, Variable};

/// The most bytes of a kernel's shared or local memory. It is more than the hardware has, and so
/// small that no text can ask for all memory.
const MOST_LOCAL: usize = 512 << 10;

#[derive(Debug, Clone, Copy)]
enum Name {
    Is(Operand),
    /// `%r<10>`: the number of the first.
    Family {
        first: u32,
        count: u32,
    },
}

/// The rest of the text, and the meaning of its names.
pub(crate) struct Parser<'a> {
    tokens: Vec<(u32, Token<'a>)>,
    at: usize,
    scopes: Vec<HashMap<&'a str, Name>>,
    variables: Vec<Variable>,
    /// Bytes of shared memory that the module declares.
    shared: usize,
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self> {
        let tokens = tokens(text)?;
        Ok(Parser { tokens, at: 0, scopes: vec![HashMap::new()], variables: Vec::new(), shared: 0 })
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(line, _)| *line)
    }

    fn error<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(ParseError::new(self.line(), problem))
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(_, token)| *token)
    }

    fn next(&mut self) -> Result<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token.ok_or_else(|| ParseError::new(self.line(), "the text ends here"))
    }

    fn take(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: char) -> Result<()> {
        if self.take(sign) {
            Ok(())
        } else {
            self.error(format!("expected `{sign}`, found {:?}", self.peek()))
        }
    }

    fn word(&mut self) -> Result<&'a str> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => {
                self.at -= 1;
                self.error(format!("expected a name, found {other:?}"))
            }
        }
    }

    fn number(&mut self) -> Result<u64> {
        match self.next()? {
            Token::Number(number) => Ok(number),
            other => {
                self.at -= 1;
                self.error(format!("expected a number, found {other:?}"))
            }
        }
    }

    /// Gives a name a meaning in the innermost scope.
    fn name(&mut self, name: &'a str, what: Name) {
        self.scopes.last_mut().expect("a scope").insert(name, what);
    }

    pub(crate) fn module(mut self) -> Result<Module> {
        let (mut version, mut target) = (String::new(), String::new());
        let mut kernels = BTreeMap::new();
        while let Some(token) = self.peek() {
            let Token::Word(word) = token else {
                return self.error(format!("expected a directive, found {token:?}"));
            };
            match word {
                ".version" => {
                    self.at += 1;
                    let major = self.number()?;
                    let minor = self.word()?;
                    version = format!("{major}{minor}");
                }
                ".target" => {
                    self.at += 1;
                    target = self.word()?.into();
                    while self.take(',') {
                        self.word()?;
                    }
                }
                ".address_size" => {
                    self.at += 1;
                    if self.number()? != 64 {
                        return self.error("addresses must have 64 bits");
                    }
                }
                ".visible" | ".weak" | ".extern" | ".common" => self.at += 1,
                ".entry" => {
                    self.at += 1;
                    let kernel = self.kernel()?;
                    kernels.insert(kernel.name.clone(), kernel);
                }
                ".global" | ".const" => self.variable()?,
                ".shared" => {
                    let (name, align, size) = self.declaration()?;
                    let start = match size {
                        // `extern` memory, whose size the launch decides.
                        Some(0) => Operand::Special(Special::DynamicShared),
                        // Memory that every kernel of the module has.
                        _ => {
                            let start = self.shared.next_multiple_of(align);
                            self.shared = start + size.unwrap_or(0);
                            if self.shared > MOST_LOCAL {
                                return self.error("the variable is too large");
                            }
                            Operand::Immediate(start as u64)
                        }
                    };
                    self.scopes[0].insert(name, Name::Is(start));
                    self.expect(';')?;
                }
                _ => return self.error(format!("`{word}` is not understood")),
            }
        }
        Ok(Module { target, version, kernels, variables: self.variables })
    }
}
