//! How the cells of an area are divided into chunks, the pieces by which it grows.
//!
//! An area begins with one small chunk. Each further chunk doubles the area, until a chunk is as long as a window; from
//! then on each adds a window. A chunk may lie anywhere in the file, and never crosses the border of two windows, which
//! are the pieces that a process maps.

use crate::core::line::arena::CELL;

/// Bytes of a page of memory.
pub(super) const PAGE: usize = 4096;
pub(super) const CELL_BYTES: usize = CELL * 8;
/// Bytes of a window: the piece of the file that a process maps at once, and the longest chunk.
pub(super) const WINDOW: usize = 1 << 20;
/// Cells of the first chunk of an area.
pub(super) const CELLS_FIRST: usize = 4 * PAGE / CELL_BYTES;
/// The most chunks of an area: 128 MiB of cells.
pub(super) const CHUNKS: usize = DOUBLINGS + 128;

/// Cells of the longest chunk.
const CELLS_WINDOW: usize = WINDOW / CELL_BYTES;
/// How often an area doubles before a chunk is as long as a window.
const DOUBLINGS: usize = (CELLS_WINDOW / CELLS_FIRST).trailing_zeros() as usize;
/// The most cells of an area.
pub(super) const CELLS_MAX: usize = start(CHUNKS);

/// The chunk that a cell lies in.
#[inline]
pub(super) const fn of(cell: usize) -> usize {
    if cell < CELLS_FIRST {
        0
    } else if cell < CELLS_WINDOW {
        (cell / CELLS_FIRST).ilog2() as usize + 1
    } else {
        DOUBLINGS + cell / CELLS_WINDOW
    }
}

/// The first cell of a chunk.
#[inline]
pub(super) const fn start(chunk: usize) -> usize {
    if chunk == 0 {
        0
    } else if chunk <= DOUBLINGS {
        CELLS_FIRST << (chunk - 1)
    } else {
        (chunk - DOUBLINGS) * CELLS_WINDOW
    }
}

/// Bytes of a chunk: a power of two.
pub(super) const fn bytes(chunk: usize) -> u64 {
    ((start(chunk + 1) - start(chunk)) * CELL_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_its_place_in_one_chunk() {
        for chunk in 0..CHUNKS {
            let (first, next) = (start(chunk), start(chunk + 1));
            assert!(next > first, "chunk {chunk}");
            for cell in [first, first + 1, (first + next) / 2, next - 1] {
                assert_eq!(of(cell), chunk, "cell {cell}");
            }
            let len = bytes(chunk);
            assert!(
                len.is_power_of_two() && len <= WINDOW as u64 && len >= PAGE as u64,
                "chunk {chunk}: {len}"
            );
        }
        assert_eq!(CELLS_MAX * CELL_BYTES, 128 << 20);
        assert_eq!(of(CELLS_MAX), CHUNKS);
    }
}
