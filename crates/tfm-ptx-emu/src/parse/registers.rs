//! Parses declarations of registers.

use super::{Name, Parser, Result};
use crate::instruction::{Operand, Type};
use crate::module::{Kernel, Register};

/// The most registers of a kernel: more than the hardware has, and so few that no text can ask for
/// all memory.
const MOST_REGISTERS: usize = 1 << 16;

impl Parser<'_> {
    /// `.reg .b32 %r<10>, x;`
    pub(super) fn registers(&mut self, kernel: &mut Kernel) -> Result<()> {
        self.word()?;
        let ty = self.word()?;
        let Some(ty) = ty.strip_prefix('.').and_then(Type::parse) else {
            return self.error(format!("`{ty}` is no type of a register"));
        };
        loop {
            let name = self.word()?;
            let first = kernel.registers.len() as u32;
            let register = |name: String| Register { name, bits: ty.bits() };
            if self.take('<') {
                let count = self.number()?;
                self.expect('>')?;
                if count as usize > MOST_REGISTERS.saturating_sub(kernel.registers.len()) {
                    return self.error(format!("{count} registers"));
                }
                kernel.registers.extend((0..count).map(|i| register(format!("{name}{i}"))));
                self.name(name, Name::Family { first, count: count as u32 });
            } else {
                kernel.registers.push(register(name.into()));
                self.name(name, Name::Is(Operand::Register(first)));
            }
            if !self.take(',') {
                return self.expect(';');
            }
        }
    }
}
