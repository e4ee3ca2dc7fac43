//! The programs that the datapath is compared with, and the one that feeds them.

use std::mem::offset_of;

use lb_ebpf::abi::{Flow, FlowKey};

use super::assembler::{Assembler, FRAME, R0, R1, R2, R3, R4, R6, R7, R8, Width};
use xvip_tests::bpf::Instruction;

/// Bytes of a frame that the feeder writes: the headers, up to a multiple of eight.
pub(crate) const FED: usize = 56;

/// XDP actions, as the kernel numbers them.
pub(crate) mod action {
    pub(crate) const ABORTED: i32 = 0;
    pub(crate) const DROP: i32 = 1;
    pub(crate) const TX: i32 = 3;
}

/// Helpers, as the kernel numbers them.
mod helper {
    pub(super) const MAP_LOOKUP: i32 = 1;
    pub(super) const TAIL_CALL: i32 = 12;
}

/// Which of the prepared headers to write next.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) next: u32,
    pub(crate) first: u32,
    pub(crate) end: u32,
}

/// Drops.
pub(crate) fn drop() -> Vec<Instruction> {
    Assembler::default().bail(action::DROP)
}

/// Sends back with Ethernet addresses exchanged.
pub(crate) fn swap() -> Vec<Instruction> {
    frame(Assembler::default(), 14)
        .load(Width::Word, R0, R6, 0)
        .load(Width::Half, R1, R6, 4)
        .load(Width::Word, R2, R6, 6)
        .load(Width::Half, R3, R6, 10)
        .store(Width::Word, R6, 6, R0)
        .store(Width::Half, R6, 10, R1)
        .store(Width::Word, R6, 0, R2)
        .store(Width::Half, R6, 4, R3)
        .end(action::TX)
        .bail(action::ABORTED)
}

/// The least a translation needs: one lookup of the flow, addresses and ports from it, both checksums.
pub(crate) fn translate(established: i32) -> Vec<Instruction> {
    let field = |offset: usize| offset as i16;
    let key = -(size_of::<FlowKey>() as i16);
    let program = frame(Assembler::default(), 54)
        .load(Width::Half, R1, R6, 12)
        .expect(R1, i32::from(0x0800u16.to_be()))
        .load(Width::Byte, R1, R6, 23)
        .expect(R1, 6)
        .load(Width::Word, R1, R6, 26)
        .store(Width::Word, FRAME, key, R1)
        .load(Width::Word, R1, R6, 30)
        .store(Width::Word, FRAME, key + 4, R1)
        .load(Width::Word, R1, R6, 34)
        .store(Width::Word, FRAME, key + 8, R1)
        .map(R1, established)
        .copy(R2, FRAME)
        .add(R2, i32::from(key))
        .call(helper::MAP_LOOKUP)
        .expect_some(R0)
        .load(Width::Byte, R1, R6, 22)
        .add(R1, -1)
        .store(Width::Byte, R6, 22, R1);
    let program = checksum(program, 24, field(offset_of!(Flow, ip_change)));
    let program = checksum(program, 50, field(offset_of!(Flow, tcp_change)));
    program
        .load(Width::Word, R1, R0, 0)
        .store(Width::Word, R6, 26, R1)
        .load(Width::Word, R1, R0, 4)
        .store(Width::Word, R6, 30, R1)
        .load(Width::Word, R1, R0, 8)
        .store(Width::Word, R6, 34, R1)
        .load(Width::Word, R1, R6, 0)
        .store(Width::Word, R6, 6, R1)
        .load(Width::Half, R1, R6, 4)
        .store(Width::Half, R6, 10, R1)
        .load(Width::Word, R1, R0, field(offset_of!(Flow, mac_high)))
        .store(Width::Word, R6, 0, R1)
        .load(Width::Half, R1, R0, field(offset_of!(Flow, mac_low)))
        .store(Width::Half, R6, 4, R1)
        .end(action::TX)
        .bail(action::ABORTED)
}

/// Writes the next prepared header into the frame and goes on to the program under test.
pub(crate) fn feed(cursor: i32, headers: i32, under_test: i32) -> Vec<Instruction> {
    let mut program = Assembler::default()
        .copy(R6, R1)
        .set(R1, 0)
        .store(Width::Word, FRAME, -4, R1)
        .map(R1, cursor)
        .copy(R2, FRAME)
        .add(R2, -4)
        .call(helper::MAP_LOOKUP)
        .expect_some(R0)
        .load(Width::Word, R7, R0, offset_of!(Cursor, next) as i16)
        .load(Width::Word, R2, R0, offset_of!(Cursor, first) as i16)
        .load(Width::Word, R1, R0, offset_of!(Cursor, end) as i16)
        .copy(R8, R7)
        .add(R8, 1)
        .skip_if_different(R8, R1)
        .copy(R8, R2)
        .store(Width::Word, R0, offset_of!(Cursor, next) as i16, R8)
        .store(Width::Word, FRAME, -4, R7)
        .map(R1, headers)
        .copy(R2, FRAME)
        .add(R2, -4)
        .call(helper::MAP_LOOKUP)
        .expect_some(R0)
        .load(Width::Word, R2, R6, 0)
        .load(Width::Word, R3, R6, 4)
        .copy(R4, R2)
        .add(R4, FED as i32)
        .expect_at_most(R4, R3);
    for at in (0..FED as i16).step_by(8) {
        program = program.load(Width::Double, R3, R0, at).store(Width::Double, R2, at, R3);
    }
    program.copy(R1, R6).map(R2, under_test).set(R3, 0).call(helper::TAIL_CALL).bail(action::ABORTED)
}

/// The frame's first byte in R6, once `length` bytes are known to be there.
fn frame(program: Assembler, length: i32) -> Assembler {
    program
        .load(Width::Word, R6, R1, 0)
        .load(Width::Word, R7, R1, 4)
        .copy(R8, R6)
        .add(R8, length)
        .expect_at_most(R8, R7)
}

/// Adds a change from the flow in R0 to the complement of a checksum in the frame.
fn checksum(program: Assembler, at: i16, change: i16) -> Assembler {
    program
        .load(Width::Half, R1, R6, at)
        .xor(R1, 0xffff)
        .load(Width::Half, R2, R0, change)
        .add_register(R1, R2)
        .copy(R2, R1)
        .shift_right(R2, 16)
        .add_register(R1, R2)
        .and(R1, 0xffff)
        .xor(R1, 0xffff)
        .store(Width::Half, R6, at, R1)
}
