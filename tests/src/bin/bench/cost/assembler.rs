//! Just enough of a BPF assembler to write the programs that the datapath is compared with.

use xvip_tests::bpf::Instruction;

/// A register.
#[derive(Clone, Copy)]
pub(crate) struct Register(u8);

/// What a program or a helper returns.
pub(crate) const R0: Register = Register(0);
/// First argument; the context on entry.
pub(crate) const R1: Register = Register(1);
/// Second argument.
pub(crate) const R2: Register = Register(2);
/// Third argument.
pub(crate) const R3: Register = Register(3);
/// Lost in calls.
pub(crate) const R4: Register = Register(4);
/// Kept in calls.
pub(crate) const R6: Register = Register(6);
/// Kept in calls.
pub(crate) const R7: Register = Register(7);
/// Kept in calls.
pub(crate) const R8: Register = Register(8);
/// The end of the stack.
pub(crate) const FRAME: Register = Register(10);

/// Width of a load or store.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// A program in the making, with one exit for everything unexpected.
#[derive(Default)]
pub(crate) struct Assembler {
    code: Vec<Instruction>,
    to_bail: Vec<usize>,
}

impl Assembler {
    fn push(mut self, code: u8, to: Register, from: Register, offset: i16, immediate: i32) -> Self {
        self.code.push(Instruction { code, registers: to.0 | from.0 << 4, offset, immediate });
        self
    }

    pub(crate) fn set(self, to: Register, value: i32) -> Self {
        self.push(0xb7, to, R0, 0, value)
    }

    pub(crate) fn copy(self, to: Register, from: Register) -> Self {
        self.push(0xbf, to, from, 0, 0)
    }

    pub(crate) fn add(self, to: Register, value: i32) -> Self {
        self.push(0x07, to, R0, 0, value)
    }

    pub(crate) fn add_register(self, to: Register, from: Register) -> Self {
        self.push(0x0f, to, from, 0, 0)
    }

    pub(crate) fn and(self, to: Register, value: i32) -> Self {
        self.push(0x57, to, R0, 0, value)
    }

    pub(crate) fn xor(self, to: Register, value: i32) -> Self {
        self.push(0xa7, to, R0, 0, value)
    }

    pub(crate) fn shift_right(self, to: Register, bits: i32) -> Self {
        self.push(0x77, to, R0, 0, bits)
    }

    pub(crate) fn load(self, width: Width, to: Register, base: Register, offset: i16) -> Self {
        self.push(0x61 | width as u8, to, base, offset, 0)
    }

    pub(crate) fn store(self, width: Width, base: Register, offset: i16, from: Register) -> Self {
        self.push(0x63 | width as u8, base, from, offset, 0)
    }

    /// Leaves unless the register holds the value.
    pub(crate) fn expect(self, register: Register, value: i32) -> Self {
        self.bail_if(0x55, register, R0, value)
    }

    /// Leaves when the register holds zero.
    pub(crate) fn expect_some(self, register: Register) -> Self {
        self.bail_if(0x15, register, R0, 0)
    }

    /// Leaves when the first register holds more than the second.
    pub(crate) fn expect_at_most(self, register: Register, limit: Register) -> Self {
        self.bail_if(0x2d, register, limit, 0)
    }

    fn bail_if(mut self, code: u8, register: Register, other: Register, value: i32) -> Self {
        self.to_bail.push(self.code.len());
        self.push(code, register, other, 0, value)
    }

    /// Passes over the next instruction when the registers differ.
    pub(crate) fn skip_if_different(self, register: Register, other: Register) -> Self {
        self.push(0x5d, register, other, 1, 0)
    }

    pub(crate) fn map(self, to: Register, descriptor: i32) -> Self {
        // BPF_PSEUDO_MAP_FD in the place of the source register; the second half is the upper word.
        self.push(0x18, to, R1, 0, descriptor).push(0, R0, R0, 0, 0)
    }

    pub(crate) fn call(self, helper: i32) -> Self {
        self.push(0x85, R0, R0, 0, helper)
    }

    pub(crate) fn end(self, action: i32) -> Self {
        self.set(R0, action).push(0x95, R0, R0, 0, 0)
    }

    /// The program; what is unexpected ends with `action`.
    pub(crate) fn bail(mut self, action: i32) -> Vec<Instruction> {
        let target = self.code.len();
        for at in std::mem::take(&mut self.to_bail) {
            if let Some(jump) = self.code.get_mut(at) {
                jump.offset = (target - at - 1) as i16;
            }
        }
        self.end(action).code
    }
}
