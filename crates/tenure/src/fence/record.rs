//! The bytes of a fence file: two places of 512 bytes, written in turn, each a line of text with a checksum.
//!
//! A line is `tenure-fence 1 SERIAL TOKEN DOMAIN CHECKSUM`, padded with spaces. The newest record has the highest serial
//! number. Its second to last byte is [`SYNCED`] once the record is known to be on disk, and a space before that. The
//! mark is not part of the checksum, and is written after the sync. If the writer dies or the sync fails, the mark is
//! missing, and the next access writes and syncs the record again before it relies on it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::rule::Stamp;
use crate::domain::Domain;
use crate::token::Token;

/// Bytes of one place: a sector.
pub(super) const PLACE: usize = 512;
/// Identifies the file and the version of its format.
const VERSION: &str = "tenure-fence 1";
/// Offset of the mark in a place.
const MARK: usize = PLACE - 2;
/// The mark of a record that is on disk.
const SYNCED: u8 = b'.';

/// A good record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) serial: u64,
    pub(super) stamp: Stamp,
    /// It is known to be on disk.
    pub(super) synced: bool,
    /// Which of the two places it is in.
    pub(super) place: usize,
}

/// The content of the file.
pub(super) struct Found {
    /// The newest good record.
    pub(super) kept: Option<Record>,
    /// Nothing was ever written.
    pub(super) fresh: bool,
}

impl Found {
    pub(super) fn stamp(&self) -> Option<&Stamp> {
        self.kept.as_ref().map(|record| &record.stamp)
    }

    /// The newest record may not be on disk.
    pub(super) fn pending(&self) -> Option<&Record> {
        self.kept.as_ref().filter(|record| !record.synced)
    }
}

pub(super) fn read_both(file: &File) -> io::Result<Found> {
    let mut bytes = [0; 2 * PLACE];
    let mut n = 0;
    while n < bytes.len() {
        match file.read_at(&mut bytes[n..], n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found(&bytes))
}

/// What is in these bytes, at most two places.
pub(super) fn found(bytes: &[u8]) -> Found {
    let records = bytes.chunks(PLACE).enumerate().filter_map(|(place, bytes)| decode(bytes, place));
    let kept = records.max_by_key(|record| record.serial);
    // A first record that was never synced was never relied on: after a loss of power its bytes may be zeros.
    Found { kept, fresh: bytes.iter().all(|b| *b == 0) }
}

/// These bytes with the right checksum in each place that has room for one, for fuzzing.
#[cfg(feature = "unstable")]
pub(super) fn mend(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for place in bytes.chunks_exact_mut(PLACE) {
        let end = place[..MARK].iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        if let Some(sum) = end.checked_sub(16).filter(|at| *at > 0 && place[at - 1] == b' ') {
            let right = format!("{:016x}", checksum(&place[..sum - 1]));
            place[sum..end].copy_from_slice(right.as_bytes());
        }
    }
    bytes
}

/// Writes a record without its mark.
pub(super) fn put(file: &File, place: usize, serial: u64, stamp: &Stamp) -> io::Result<()> {
    file.write_all_at(&encode(serial, stamp), (place * PLACE) as u64)
}

/// Marks a record as synced.
pub(super) fn mark(file: &File, place: usize) -> io::Result<()> {
    file.write_all_at(&[SYNCED], (place * PLACE + MARK) as u64)
}

pub(super) fn encode(serial: u64, stamp: &Stamp) -> [u8; PLACE] {
    let text = format!("{VERSION} {serial} {} {}", stamp.token(), stamp.domain());
    let line = format!("{text} {:016x}", checksum(text.as_bytes()));
    let mut bytes = [b' '; PLACE];
    // The longest: 14 + 20 + 19 + 200 + 16 and four spaces.
    for (place, byte) in bytes.iter_mut().zip(line.bytes()) {
        *place = byte;
    }
    bytes[PLACE - 1] = b'\n';
    bytes
}

fn decode(bytes: &[u8], place: usize) -> Option<Record> {
    let (line, end) = bytes.split_at_checked(MARK)?;
    let synced = match end {
        [SYNCED, b'\n'] => true,
        [b' ', b'\n'] => false,
        _ => return None,
    };
    let line = std::str::from_utf8(line).ok()?.trim_end_matches(' ');
    let (text, sum) = line.rsplit_once(' ')?;
    if sum != format!("{:016x}", checksum(text.as_bytes())) {
        return None;
    }
    let mut words = text.strip_prefix(VERSION)?.strip_prefix(' ')?.split(' ');
    let (serial, token, domain) = (words.next()?, words.next()?, words.next()?);
    let stamp = Stamp::new(Domain::new(domain).ok()?, token.parse::<Token>().ok()?);
    let record = Record { serial: serial.parse().ok()?, stamp, synced, place };
    // One spelling, so nothing else is taken for a record.
    (encode(record.serial, &record.stamp)[..MARK] == bytes[..MARK]).then_some(record)
}

/// FNV-1a of 64 bits: notices torn and flipped bytes; no defence against malice.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_record_fits_and_every_flipped_bit_is_noticed() {
        let domain = Domain::new(&"d".repeat(200)).expect("a domain");
        let stamp = Stamp::new(domain, Token::new(i64::MAX).expect("a token"));
        let bytes = encode(u64::MAX, &stamp);
        let record = Record { serial: u64::MAX, stamp, synced: false, place: 1 };
        assert_eq!(decode(&bytes, 1), Some(record));
        let end = bytes.iter().rposition(|b| !b.is_ascii_whitespace()).expect("a text");
        assert!(end < MARK);
        for at in 0..PLACE {
            for bit in 0..8 {
                let mut flipped = bytes;
                flipped[at] ^= 1 << bit;
                assert_eq!(decode(&flipped, 1), None, "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_record_has_one_spelling() {
        for text in [
            "tenure-fence 1 +3 7 a",
            "tenure-fence 1 3 07 a",
            "tenure-fence 1 3 +7 a",
            "tenure-fence 1 3 7 a b",
        ] {
            let mut bytes = [b' '; PLACE];
            let line = format!("{text} {:016x}", checksum(text.as_bytes()));
            bytes[..line.len()].copy_from_slice(line.as_bytes());
            bytes[PLACE - 1] = b'\n';
            assert_eq!(decode(&bytes, 0), None, "{text}");
        }
    }
}
