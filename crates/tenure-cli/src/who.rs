//! Who this process is, as listings show it.

use tenure::Owner;

/// The longest of an owner's texts that a store takes, in bytes.
const TEXT_MAX: usize = 128;

/// This user on this host, for a process that people look for.
pub(crate) fn owner(pid: u32, program: &str) -> Owner {
    Owner { pid, program: shortened(program.into(), TEXT_MAX), ..Owner::this_process() }
}

/// A text cut at `max` bytes, at a character.
pub(crate) fn shortened(mut text: String, max: usize) -> String {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
