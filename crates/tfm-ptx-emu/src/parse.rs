//! Parses text to a module.

mod operands;
mod registers;

use std::collections::{BTreeMap, HashMap};

use crate::decode::decode;
use crate::fault::ParseError;
use crate::instruction::{Instruction, Op, Operand, Special, Type};
use crate::lex::{Token, tokens};
use crate::module::{Kernel, Module, Variable};

/// The most bytes that one variable, the parameters of a kernel, or a kernel's shared or local
/// memory may take. It is more than the hardware has, and so small that no text can ask for all
/// memory.
const MOST_BYTES: usize = 16 << 20;
const MOST_PARAMETERS: usize = 32 << 10;
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

    /// `.space .align 4 .b8 name[128]`: the name, the alignment, the bytes (0 for `[]`).
    fn declaration(&mut self) -> Result<(&'a str, usize, Option<usize>)> {
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
    fn variable(&mut self) -> Result<()> {
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

    fn kernel(&mut self) -> Result<Kernel> {
        let name = self.word()?.to_owned();
        self.scopes.truncate(1);
        self.scopes.push(HashMap::new());
        let (mut parameters, mut end) = (Vec::new(), 0usize);
        if self.take('(') {
            while !self.take(')') {
                let (name, align, size) = self.declaration()?;
                let (offset, size) = (end.next_multiple_of(align), size.unwrap_or(0));
                parameters.push((offset, size));
                end = offset + size;
                if end > MOST_PARAMETERS {
                    return self.error("the parameters are too large");
                }
                self.name(name, Name::Is(Operand::Immediate(offset as u64)));
                self.take(',');
            }
        }
        // Skip directives for tuning, such as `.maxntid 128, 1, 1`.
        while !self.take('{') {
            self.next()?;
        }
        let mut body = Body {
            kernel: Kernel {
                name,
                parameters,
                shared: self.shared,
                local: 0,
                registers: Vec::new(),
                instructions: Vec::new(),
                asynchronous: false,
            },
            labels: HashMap::new(),
            jumps: Vec::new(),
            inside: vec![0],
            scopes: 1,
        };
        let outermost = self.scopes.len();
        loop {
            if self.take('{') {
                self.scopes.push(HashMap::new());
                body.inside.push(body.scopes);
                body.scopes += 1;
            } else if self.take('}') {
                if self.scopes.len() == outermost {
                    break;
                }
                self.scopes.pop();
                body.inside.pop();
            } else {
                self.statement(&mut body)?;
            }
        }
        let Body { mut kernel, labels, jumps, .. } = body;
        for (index, label, inside, line) in jumps {
            let mut found = inside.iter().rev().filter_map(|scope| labels.get(&(*scope, label)));
            let Some(&target) = found.next() else {
                return Err(ParseError::new(line, format!("there is no label `{label}`")));
            };
            kernel.instructions[index].op = Op::Branch { target };
        }
        kernel.asynchronous = kernel.instructions.iter().any(|i| matches!(i.op, Op::Hopper(_)));
        // A kernel that runs off its end returns.
        let line = self.line();
        kernel.instructions.push(Instruction { line, guard: None, op: Op::Exit });
        Ok(kernel)
    }

    fn name(&mut self, name: &'a str, what: Name) {
        self.scopes.last_mut().expect("a scope").insert(name, what);
    }

    fn statement(&mut self, body: &mut Body<'a>) -> Result<()> {
        if self.take(';') {
            return Ok(());
        }
        if let (Some(Token::Word(label)), Some((_, Token::Sign(':')))) =
            (self.peek(), self.tokens.get(self.at + 1))
        {
            self.at += 2;
            let scope = body.inside.last().copied().unwrap_or(0);
            body.labels.insert((scope, label), body.kernel.instructions.len() as u32);
            return Ok(());
        }
        match self.peek() {
            Some(Token::Word(".reg")) => return self.registers(&mut body.kernel),
            Some(Token::Word(space @ (".shared" | ".local"))) => {
                let (name, align, size) = self.declaration()?;
                self.expect(';')?;
                let used = match space {
                    ".shared" => &mut body.kernel.shared,
                    _ => &mut body.kernel.local,
                };
                let start = used.next_multiple_of(align);
                *used = start + size.unwrap_or(0);
                if *used > MOST_LOCAL {
                    return self.error("the variable is too large");
                }
                self.name(name, Name::Is(Operand::Immediate(start as u64)));
                return Ok(());
            }
            Some(Token::Word(".loc" | ".pragma" | ".file")) => {
                let line = self.line();
                while self
                    .tokens
                    .get(self.at)
                    .is_some_and(|(l, token)| *l == line && *token != Token::Sign(';'))
                {
                    self.at += 1;
                }
                return Ok(());
            }
            _ => {}
        }
        let line = self.line();
        let guard = if self.take('@') {
            let negated = self.take('!');
            let word = self.word()?;
            Some((self.lookup(word)?, negated))
        } else {
            None
        };
        let opcode = self.word()?;
        let parts: Vec<&str> = opcode.split('.').collect();
        if parts[0] == "bra" {
            let label = self.word()?;
            self.expect(';')?;
            let inside = body.inside.clone();
            body.jumps.push((body.kernel.instructions.len(), label, inside, line));
            body.kernel.instructions.push(Instruction {
                line,
                guard,
                op: Op::Branch { target: 0 },
            });
            return Ok(());
        }
        let mut arguments = Vec::new();
        while !self.take(';') {
            arguments.push(self.argument()?);
            if !self.take(',') {
                self.expect(';')?;
                break;
            }
        }
        let op = decode(&parts, &arguments)
            .map_err(|problem| ParseError::new(line, format!("`{opcode}`: {problem}")))?;
        body.kernel.instructions.push(Instruction { line, guard, op });
        Ok(())
    }
}

/// A kernel that is being parsed.
struct Body<'a> {
    kernel: Kernel,
    /// The labels of each scope. Only statements between the same braces know a label.
    labels: HashMap<(u32, &'a str), u32>,
    jumps: Vec<(usize, &'a str, Vec<u32>, u32)>,
    /// The numbers of the scopes around the present statement; and the number of scopes so far.
    inside: Vec<u32>,
    scopes: u32,
}
