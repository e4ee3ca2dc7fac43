//! The datapath object keeps within the stack that every kernel allows, and not only within that of the one the tests run on.
//!
//! All frames along a chain of calls share 512 bytes. Linux before 6.8 rounds each frame up to 32 bytes
//! (`check_max_stack_depth` in kernel/bpf/verifier.c), later ones to 16.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// Bytes along a chain of calls.
const MOST: u64 = 512;
/// Bytes that a frame is rounded up to.
const UNIT: u64 = 32;
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;

/// Where a function begins: number of its section, place in it.
type At = (usize, u64);

/// What a function needs by itself, and whom it calls.
#[derive(Debug, Default)]
struct Frame {
    name: String,
    bytes: u64,
    calls: BTreeSet<At>,
}

impl Frame {
    fn rounded(&self) -> u64 {
        self.bytes.max(1).next_multiple_of(UNIT)
    }
}

/// The bytes of stack that a function's instructions reach, by the lowest address they make from the frame pointer.
fn depth(code: &[u8]) -> u64 {
    const FRAME_POINTER: u8 = 10;
    const COPY: u8 = 0xbf;
    const ADD: u8 = 0x07;
    let mut copies = BTreeSet::new();
    let mut lowest = 0i64;
    for instruction in code.chunks_exact(INSTRUCTION) {
        let &[code, registers, low, high, a, b, c, d] = instruction else { continue };
        let (to, from) = (registers & 0xf, registers >> 4);
        let (offset, immediate) = (i64::from(i16::from_le_bytes([low, high])), i32::from_le_bytes([a, b, c, d]));
        let base = match code & 7 {
            1 => Some(from),
            2 | 3 => Some(to),
            _ => None,
        };
        if base == Some(FRAME_POINTER) {
            lowest = lowest.min(offset);
        }
        match code {
            COPY if from == FRAME_POINTER => {
                copies.insert(to);
            }
            ADD if copies.contains(&to) => lowest = lowest.min(i64::from(immediate)),
            _ if matches!(code & 7, 0 | 1 | 4 | 7) => {
                copies.remove(&to);
            }
            _ => {}
        }
    }
    lowest.unsigned_abs()
}

fn frames(object: &[u8]) -> Result<BTreeMap<At, Frame>> {
    /// Call of a function of the same object.
    const CALL: [u8; 2] = [0x85, 0x10];
    let file = object::File::parse(object)?;
    let mut frames = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let index = symbol.section_index().context("a function in no section")?;
        let section = file.section_by_index(index)?;
        let code = section.data()?;
        let start = symbol.address();
        let code =
            code.get(start as usize..(start + symbol.size()) as usize).context("a function beyond its section")?;
        let relocated: BTreeMap<_, _> = section.relocations().collect();
        let mut frame = Frame { name: symbol.name()?.to_owned(), bytes: depth(code), ..Frame::default() };
        for (number, instruction) in code.chunks_exact(INSTRUCTION).enumerate() {
            if instruction[..2] != CALL {
                continue;
            }
            let here = start + (number * INSTRUCTION) as u64;
            let immediate = i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]);
            let beyond = (i64::from(immediate) + 1) * INSTRUCTION as i64;
            frame.calls.insert(match relocated.get(&here).map(object::Relocation::target) {
                Some(RelocationTarget::Symbol(called)) => {
                    let called = file.symbol_by_index(called)?;
                    let at =
                        called.section_index().with_context(|| format!("{} calls what is not there", frame.name))?;
                    let within = if called.kind() == SymbolKind::Section { beyond as u64 } else { called.address() };
                    (at.0, within)
                }
                _ => (index.0, here.wrapping_add_signed(beyond)),
            });
        }
        frames.insert((index.0, start), frame);
    }
    Ok(frames)
}

/// The deepest chain of calls that begins with a function, first its bytes.
fn deepest(frames: &BTreeMap<At, Frame>, at: At) -> Result<(u64, Vec<String>)> {
    let frame = frames.get(&at).with_context(|| format!("no function at {at:x?}"))?;
    let mut below = (0, Vec::new());
    for called in &frame.calls {
        let chain = deepest(frames, *called)?;
        if chain.0 > below.0 {
            below = chain;
        }
    }
    let (bytes, mut names) = below;
    names.insert(0, format!("{} ({})", frame.name, frame.bytes));
    Ok((bytes + frame.rounded(), names))
}

#[test]
fn every_chain_of_calls_fits_an_older_kernels_stack() -> Result<()> {
    ensure!(!xvip::bpf::OBJECT.is_empty(), "this build has no datapath object: unset XVIP_EBPF_STUB");
    let frames = frames(xvip::bpf::OBJECT)?;
    let mut chains = frames.keys().map(|at| deepest(&frames, *at)).collect::<Result<Vec<_>>>()?;
    chains.sort();
    let (bytes, names) = chains.last().context("the object has no function")?;
    println!("{bytes} of {MOST} bytes: {}", names.join(" -> "));
    ensure!(names.len() > 2, "no chain of a program, a part and what that calls: the object was read wrongly");
    ensure!(*bytes <= MOST, "{bytes} bytes of stack, {MOST} are there: {}", names.join(" -> "));
    Ok(())
}

#[test]
fn the_depth_of_a_frame_is_read_from_its_instructions() {
    let store = [0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0]; // *(u64 *)(r10 - 8) = r1
    let copy = [0xbf, 0xa2, 0, 0, 0, 0, 0, 0]; // r2 = r10
    let lower = [0x07, 0x02, 0, 0, 0xb0, 0xff, 0xff, 0xff]; // r2 += -80
    let other = [0x07, 0x03, 0, 0, 0x00, 0xff, 0xff, 0xff]; // r3 += -256
    assert_eq!(depth(&store), 8);
    assert_eq!(depth(&[store, copy, lower, other].concat()), 80);
    assert_eq!(depth(&[store, lower].concat()), 8, "no copy of the frame pointer");
}
