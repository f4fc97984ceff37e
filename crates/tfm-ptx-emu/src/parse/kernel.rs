//! Parses kernels: parameters, declarations, labels and instructions.

use super::{MOST_LOCAL, Name, Parser, Result};
use crate::decode::decode;
use crate::fault::ParseError;
use crate::instruction::{Instruction, Op, Operand};
use crate::lex::Token;
use crate::module::Kernel;
use std::collections::HashMap;

/// The most bytes that the parameters of a kernel may take, which is more than the hardware allows.
const MOST_PARAMETERS: usize = 32 << 10;

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

impl<'a> Parser<'a> {
    pub(super) fn kernel(&mut self) -> Result<Kernel> {
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
