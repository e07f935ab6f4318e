//! Where everything lies in the store file. Offsets are in bytes unless they say otherwise.
//!
//! ```text
//! header page | 1,024 process slots of 512 bytes | heads of 128 areas | first chunks of 64 areas | more chunks
//! head of an area: lock word, counters | undo log | where its chunks of cells lie
//! ```
//! A shard has two areas and uses one of them, which its generation in the header tells. The other is where a rescue
//! (`rescue.rs`) takes its lines when a process that lives stays inside. Area `n` of shard `s` has the number
//! `s + n * SHARDS`.
//!
//! A new file ends after the first chunks. A shard that needs more cells gets a chunk at the end of the file (`chunks.rs`).
//! Only allocated ranges are ever touched, so a full disk is a refused allocation and never a SIGBUS.

use super::chunks::{CELL_BYTES, CELLS_FIRST, CHUNKS, PAGE};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the host backend needs atomic words of 64 bits and a 64-bit address space");

/// `TENURE` and two bytes that a text tool would change.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"TENURE\r\n");
/// The version of this layout, and of the line's cells within it.
pub(super) const LAYOUT: u64 = 4;

/// Process slots, slot 0 unused.
pub(super) const SLOTS: usize = 1024;
pub(super) const SHARDS: usize = 64;
/// Areas of a shard.
pub(super) const AREAS: usize = 2;
/// Bytes of an area's head: its lock, its counters, its undo log, and where its chunks lie.
const HEAD: usize = 5 * PAGE;

const SLOT_SIZE: usize = 512;
const SLOTS_AT: usize = PAGE;
const HEADS_AT: usize = SLOTS_AT + SLOTS * SLOT_SIZE;
/// The first chunks of the areas that shards begin with.
const CELLS_AT: usize = HEADS_AT + AREAS * SHARDS * HEAD;
/// Bytes of a new file: everything but what shards grow by. Every process maps them as a whole.
pub(super) const FRONT: usize = CELLS_AT + SHARDS * CELLS_FIRST * CELL_BYTES;

/// Fields of the header that never change, as words: magic, layout, boot id (2), slots, shards, bytes of a head, where
/// heads begin, bytes of a new file, seed, the token floor it was built with, and their checksum.
pub(super) const STATIC_WORDS: usize = 12;

/// Fields of the header that change, as indices of words (`W`) and halves (`H`). Each has a cache line of its own.
pub(super) mod header {
    /// No token at or above this may be given: the durable floor, or `i64::MAX` in shared memory.
    pub(crate) const CEILING_W: usize = 512 / 8;
    /// The lock of whoever raises the ceiling.
    pub(crate) const RAISING_H: usize = 576 / 4;
    /// How often it was let go.
    pub(crate) const RAISED_W: usize = 584 / 8;
    /// Counts changes while somebody watches; watchers sleep on it.
    pub(crate) const CHANGES_H: usize = 640 / 4;
    /// Whether somebody sleeps on it.
    pub(crate) const ASLEEP_H: usize = 644 / 4;
    /// Until when somebody watches, in ns of the boot clock.
    pub(crate) const WATCHED_W: usize = 704 / 8;
    /// The highest slot ever taken.
    pub(crate) const HIGHEST_H: usize = 768 / 4;
    /// The lock of whoever rescues a shard.
    pub(crate) const RESCUING_H: usize = 832 / 4;
    /// How often it was let go.
    pub(crate) const RESCUED_W: usize = 840 / 8;
    /// How much of the file is in use: chunks are made after this byte.
    pub(crate) const END_W: usize = 896 / 8;
    /// How often the lines of a shard were taken to its other area.
    pub(crate) const fn generation_w(shard: usize) -> usize {
        1024 / 8 + shard
    }
}

/// Hints that one process slot's ring holds.
pub(super) const RING: u64 = 12;

/// Fields of a process slot.
pub(super) mod slot {
    use super::{SLOT_SIZE, SLOTS_AT};

    const fn base(slot: u32) -> usize {
        SLOTS_AT + (slot as usize) * SLOT_SIZE
    }
    pub(crate) const fn generation_h(slot: u32) -> usize {
        base(slot) / 4
    }
    pub(crate) const fn pid_h(slot: u32) -> usize {
        base(slot) / 4 + 1
    }
    /// The newest generation whose claims have all been removed.
    pub(crate) const fn reaped_h(slot: u32) -> usize {
        base(slot) / 4 + 2
    }
    /// The inode of the process's pid namespace, 0 if unknown.
    pub(crate) const fn namespace_w(slot: u32) -> usize {
        base(slot) / 8 + 2
    }
    /// The bell: its process sleeps on it.
    pub(crate) const fn bell_h(slot: u32) -> usize {
        (base(slot) + 64) / 4
    }
    /// Whether it does.
    pub(crate) const fn asleep_h(slot: u32) -> usize {
        (base(slot) + 64) / 4 + 1
    }
    /// Hints were lost: look at every waiting claim.
    pub(crate) const fn all_h(slot: u32) -> usize {
        (base(slot) + 64) / 4 + 2
    }
    /// Hints ever written.
    pub(crate) const fn head_w(slot: u32) -> usize {
        (base(slot) + 128) / 8
    }
    /// Hint `n`: three words (tag, id).
    #[allow(clippy::cast_possible_truncation)] // below RING
    pub(crate) const fn hint_w(slot: u32, n: u64) -> usize {
        (base(slot) + 192) / 8 + 3 * (n % super::RING) as usize
    }
}

/// Entries of a shard's undo log.
pub(super) const LOG_MAX: usize = 1024;

/// The number of the area that a shard uses in a generation.
#[allow(clippy::cast_possible_truncation)] // below AREAS
pub(super) const fn area(shard: usize, generation: u64) -> usize {
    shard + SHARDS * (generation % AREAS as u64) as usize
}

/// Fields of an area, by its number.
pub(super) mod shard {
    use super::{HEAD, HEADS_AT, LOG_MAX};

    pub(crate) const fn base(shard: usize) -> usize {
        HEADS_AT + shard * HEAD
    }
    pub(crate) const fn lock_h(shard: usize) -> usize {
        base(shard) / 4
    }
    /// Counts how often the lock was let go.
    pub(crate) const fn turns_w(shard: usize) -> usize {
        (base(shard) + 64) / 8
    }
    /// How many cells are allocated.
    pub(crate) const fn cells_w(shard: usize) -> usize {
        (base(shard) + 64) / 8 + 1
    }
    /// Whether the area has heard of the token floor that the file was built with.
    pub(crate) const fn floored_w(shard: usize) -> usize {
        (base(shard) + 64) / 8 + 2
    }
    /// How many entries of the undo log are in force.
    pub(crate) const fn logged_w(shard: usize) -> usize {
        (base(shard) + 128) / 8
    }
    /// How many steps ever ended, whole or undone.
    pub(crate) const fn steps_w(shard: usize) -> usize {
        (base(shard) + 128) / 8 + 1
    }
    /// The log: pairs of a word's index among the cells, and its old value.
    pub(crate) const fn log_w(shard: usize) -> std::ops::Range<usize> {
        let from = (base(shard) + 192) / 8;
        from..from + 2 * LOG_MAX
    }
    /// Where in the file a chunk begins; 0: there is none yet.
    pub(crate) const fn chunk_w(shard: usize, chunk: usize) -> usize {
        (base(shard) + 192) / 8 + 2 * LOG_MAX + chunk
    }
}

const _: () = assert!(slot::hint_w(0, RING - 1) + 3 <= (SLOTS_AT + SLOT_SIZE) / 8, "the ring fits its slot");
const _: () = assert!(header::generation_w(SHARDS) * 8 <= PAGE, "the generations fit the header's page");
const _: () = assert!(192 + 16 * LOG_MAX + 8 * CHUNKS <= HEAD, "log and chunks fit the head");
const _: () =
    assert!(CELLS_AT.is_multiple_of(PAGE) && HEADS_AT.is_multiple_of(PAGE) && FRONT.is_multiple_of(PAGE));

/// Where the first chunk of an area lies from the start; `None` for areas that shards do not begin with.
pub(super) fn first_chunk(area: usize) -> Option<u64> {
    (area < SHARDS).then_some((CELLS_AT + area * CELLS_FIRST * CELL_BYTES) as u64)
}

/// The first word of that chunk.
pub(super) fn first_word(area: usize) -> usize {
    (CELLS_AT + area * CELLS_FIRST * CELL_BYTES) / 8
}

/// The ranges of a new file, from and length, that must have room on disk.
pub(super) fn front_bytes() -> impl Iterator<Item = (u64, u64)> {
    let used = [(0, (HEADS_AT + SHARDS * HEAD) as u64), (CELLS_AT as u64, (FRONT - CELLS_AT) as u64)];
    used.into_iter().chain((SHARDS..AREAS * SHARDS).map(spare_bytes))
}

/// What the head of an area takes that nobody has used yet: its lock word and counters.
fn spare_bytes(area: usize) -> (u64, u64) {
    (shard::base(area) as u64, PAGE as u64)
}

/// The rest of its head.
pub(super) fn rest_bytes(area: usize) -> (u64, u64) {
    ((shard::base(area) + PAGE) as u64, (HEAD - PAGE) as u64)
}

/// What the header says that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The boot that the file belongs to.
    pub(super) boot: u128,
    /// Random: decides shards and the shape of trees.
    pub(super) seed: u64,
    /// All tokens of this file are above this.
    pub(super) floor: i64,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// No store at all.
    Foreign,
    /// Another layout version.
    Layout(u64),
    /// The checksum does not match, or the sizes are not those of this layout.
    Damaged,
}

impl Header {
    /// The header's static words.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // halves of the boot id; a floor is positive
    pub(super) fn words(&self) -> [u64; STATIC_WORDS] {
        let mut words = [
            MAGIC,
            LAYOUT,
            self.boot as u64,
            (self.boot >> 64) as u64,
            SLOTS as u64,
            SHARDS as u64,
            HEAD as u64,
            HEADS_AT as u64,
            FRONT as u64,
            self.seed,
            self.floor as u64,
            0,
        ];
        words[STATIC_WORDS - 1] = checksum(&words[..STATIC_WORDS - 1]);
        words
    }

    /// Reads them.
    pub(super) fn read(words: &[u64; STATIC_WORDS]) -> Result<Header, Broken> {
        if words[0] != MAGIC {
            return Err(Broken::Foreign);
        }
        if words[1] != LAYOUT {
            return Err(Broken::Layout(words[1]));
        }
        let boot = u128::from(words[2]) | u128::from(words[3]) << 64;
        let floor = i64::try_from(words[10]).map_err(|_| Broken::Damaged)?;
        let header = Header { boot, seed: words[9], floor };
        if header.words() == *words { Ok(header) } else { Err(Broken::Damaged) }
    }
}

/// A hash that notices torn, swapped and flipped words; no defence against malice.
pub(super) fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0x7E6E_7572_6520_3031, |sum, word| mix(sum ^ word).wrapping_add(sum.rotate_left(17)))
}

/// Mixes all bits of a word (the finaliser of splitmix64).
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The shard of a key.
#[allow(clippy::cast_possible_truncation)] // below SHARDS
pub(super) fn shard_of(seed: u64, key: &[u8]) -> usize {
    let mut hash = mix(seed ^ key.len() as u64);
    let (chunks, rest) = key.as_chunks::<8>();
    for chunk in chunks {
        hash = mix(hash ^ u64::from_le_bytes(*chunk));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    (mix(hash ^ u64::from_le_bytes(last)) % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_noticed() {
        let header = Header { boot: 7 << 70 | 5, seed: 99, floor: 1_234 };
        let words = header.words();
        assert_eq!(Header::read(&words), Ok(header));
        for word in 0..STATIC_WORDS {
            for bit in 0..64 {
                let mut flipped = words;
                flipped[word] ^= 1 << bit;
                assert!(Header::read(&flipped).is_err(), "word {word} bit {bit}");
            }
        }
    }

    #[test]
    fn a_new_file_is_small_and_its_parts_do_not_overlap() {
        const { assert!(FRONT < 5 << 20) };
        let mut parts: Vec<(u64, u64)> =
            front_bytes().chain((SHARDS..AREAS * SHARDS).map(rest_bytes)).collect();
        parts.sort_unstable();
        for pair in parts.windows(2) {
            assert_eq!(pair[0].0 + pair[0].1, pair[1].0);
        }
        assert_eq!(parts.last().map(|(at, len)| at + len), Some(FRONT as u64));
        let last = first_chunk(SHARDS - 1).expect("a shard begins with it");
        assert_eq!(last + crate::backend::host::chunks::bytes(0), FRONT as u64);
    }

    #[test]
    fn keys_spread_over_all_shards() {
        let mut seen = [0; SHARDS];
        for n in 0..6400 {
            seen[shard_of(42, format!("default/orders/{n}").as_bytes())] += 1;
        }
        assert!(seen.iter().all(|&n| (40..200).contains(&n)), "{seen:?}");
    }
}
