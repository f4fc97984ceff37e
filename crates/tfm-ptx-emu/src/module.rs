//! A module: its kernels and variables.

use std::collections::BTreeMap;

use crate::fault::ParseError;
use crate::instruction::Instruction;
use crate::parse::Parser;

/// A parsed PTX module.
#[derive(Debug, Clone)]
pub struct Module {
    /// The architecture that it was compiled for, such as `sm_80`.
    pub target: String,
    /// The PTX version.
    pub version: String,
    pub(crate) kernels: BTreeMap<String, Kernel>,
    pub(crate) variables: Vec<Variable>,
}

impl Module {
    /// Reads PTX text.
    ///
    /// # Errors
    /// The first statement that is not understood, with its line. An opcode that the emulator does
    /// not support is an error here, not only when it is reached.
    pub fn parse(text: &str) -> Result<Module, ParseError> {
        Parser::new(text)?.module()
    }

    /// The kernel with this name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.get(name)
    }

    /// All kernels, by name.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        self.kernels.values()
    }
}

/// A variable of a module, in global or constant memory.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) align: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A kernel, decoded.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// The offset and the size in bytes of each parameter.
    pub parameters: Vec<(usize, usize)>,
    /// Bytes of shared memory that the kernel itself declares.
    pub shared: usize,
    pub(crate) local: usize,
    pub(crate) registers: Vec<Register>,
    pub(crate) instructions: Vec<Instruction>,
    /// Whether it uses instructions of compute capability 9.0.
    pub(crate) asynchronous: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Register {
    pub(crate) name: String,
    pub(crate) bits: u32,
}
