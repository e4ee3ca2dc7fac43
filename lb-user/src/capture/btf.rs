//! What type information (BTF, Documentation/bpf/btf.rst) says of one function or one member of a structure.

/// Types of a program, or of the kernel.
pub(super) struct Types<'b> {
    types: &'b [u8],
    strings: &'b [u8],
}

/// A type as it lies there.
struct Type<'b> {
    name: &'b [u8],
    kind: u32,
    /// What follows: members of a structure.
    more: &'b [u8],
}

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const FUNC: u32 = 12;
/// Bytes of a type, and of a member of a structure.
const TYPE: usize = 12;
const MEMBER: usize = 12;

impl<'b> Types<'b> {
    /// Of these bytes; `None`: they are something else.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let magic = u16::from_ne_bytes(*bytes.first_chunk()?);
        let header = size(bytes, 4)?;
        let section = |at: usize| bytes.get(header.checked_add(size(bytes, at)?)?..)?.get(..size(bytes, at + 4)?);
        (magic == MAGIC).then_some(Self { types: section(8)?, strings: section(16)? })
    }

    /// The number of a function.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.all().find(|(_, of)| of.kind == FUNC && of.name == name.as_bytes()).map(|(id, _)| id)
    }

    /// Where a member lies in a structure, in bytes.
    pub(super) fn member(&self, structure: &str, member: &str) -> Option<u32> {
        let (_, found) = self.all().find(|(_, of)| of.kind == STRUCT && of.name == structure.as_bytes())?;
        let (members, _) = found.more.as_chunks::<MEMBER>();
        let its = members
            .iter()
            .find(|its| word(&its[..], 0).and_then(|name| self.string(name)) == Some(member.as_bytes()))?;
        // The upper byte is the size of a bit field, which is none of these.
        Some((word(&its[..], 8)? & 0x00ff_ffff) / 8)
    }

    /// All types with their numbers, as far as they can be read.
    fn all(&self) -> impl Iterator<Item = (u32, Type<'b>)> {
        let mut rest = self.types;
        let types = std::iter::from_fn(move || {
            let (name, info) = (word(rest, 0)?, word(rest, 4)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let more = match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => count * MEMBER,
                6 | 13 => count * 8,
                2 | 7..=12 | 16 | 18 => 0,
                // What is behind a kind that is not known cannot be found.
                _ => return None,
            };
            let (of, after) = rest.get(TYPE..)?.split_at_checked(more)?;
            rest = after;
            Some((name, kind, of))
        });
        let named = types
            .zip(1_u32..)
            .map(|((name, kind, more), id)| (id, Type { name: self.string(name).unwrap_or_default(), kind, more }));
        named.collect::<Vec<_>>().into_iter()
    }

    fn string(&self, at: u32) -> Option<&'b [u8]> {
        self.strings.get(at as usize..)?.split(|byte| *byte == 0).next()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn size(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(word(bytes, at)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int`, `struct sk { int a; int len; }`, and a function `xvip`.
    fn example() -> Vec<u8> {
        let strings = b"\0int\0sk\0a\0len\0xvip\0";
        let types: Vec<u32> =
            [vec![1, 1 << 24, 4, 32], vec![5, 4 << 24 | 2, 8, 8, 1, 0, 10, 1, 32], vec![14, 12 << 24, 1]].concat();
        let bytes = types.len() as u32 * 4;
        let header = [24, 0, bytes, bytes, strings.len() as u32];
        let mut all = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        all.extend(header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()));
        all.extend(strings);
        all
    }

    #[test]
    fn functions_and_members_are_found() {
        let bytes = example();
        let types = Types::read(&bytes).unwrap();
        assert_eq!((types.function("xvip"), types.function("sk")), (Some(3), None));
        assert_eq!(
            (types.member("sk", "len"), types.member("sk", "b"), types.member("s", "len")),
            (Some(4), None, None)
        );
    }

    #[test]
    fn what_is_cut_or_something_else_has_none() {
        let bytes = example();
        for end in 0..bytes.len() {
            if let Some(types) = Types::read(&bytes[..end]) {
                assert_eq!(types.function("none"), None);
            }
        }
        assert!(Types::read(&[0; 64]).is_none());
    }

    #[test]
    fn this_kernels_buffer_has_a_length() {
        // Where the kernel has no type information there is nothing to capture with either.
        if let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") {
            assert!(Types::read(&bytes).unwrap().member("sk_buff", "len").is_some_and(|at| at < 512));
        }
    }
}
