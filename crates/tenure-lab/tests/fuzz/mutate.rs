//! Changes to inputs: of bytes, of numbers in them, of pieces between separators, and of two inputs with each other.

use tenure_lab::Dice;

/// Numbers at which parsers go wrong, and other spellings of numbers.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "+7",
    "007",
    "-1",
    "1",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740992",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "1e9",
    "0x7",
    "1.5",
    "",
    " 1",
    "\u{661}",
];

/// Pieces that mean something to one parser or another.
const WORDS: &[&str] = &[
    "\r\n",
    "\n",
    "\t",
    " ",
    "/",
    "//",
    "..",
    ".",
    ":",
    ",",
    "@",
    "?",
    "&",
    "=",
    "#",
    "%",
    "%2F",
    "%00",
    "%zz",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\n",
    "\0",
    "\u{7f}",
    "\u{e4}",
    "a\u{308}",
    "\u{200b}",
    "\u{202e}",
    "\u{1f512}",
    "null",
    "true",
    "{}",
    "[]",
    "*1\r\n",
    "$-1\r\n",
    "tenure",
];

/// Makes inputs.
pub(crate) struct Mutator(Dice);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Mutator {
        Mutator(Dice::at(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `n`; 0 if there is none.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// One of the corpus, changed one to eight times.
    pub(crate) fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
        let changes = 1 << self.below(4);
        for _ in 0..changes {
            self.change(&mut bytes, corpus);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let range = at..(at + self.below(24)).min(bytes.len());
        match self.below(12) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next().to_le_bytes()[0],
            2 => bytes.insert(at, self.next().to_le_bytes()[0]),
            3 => drop(bytes.drain(range)),
            4 => bytes.truncate(at),
            5 => {
                // Again, up to many times: depth and length cost parsers most.
                let piece = bytes[range].to_vec();
                let times = 1 << self.below(10);
                let room = (1 << 12) / piece.len().max(1);
                bytes.splice(at..at, piece.repeat(times.min(room)));
            }
            6 | 7 => {
                let number = self.pick(NUMBERS).as_bytes();
                let digits = self.digits(bytes);
                bytes.splice(digits, number.iter().copied());
            }
            8 => {
                let word = self.pick(WORDS).as_bytes();
                bytes.splice(at..at, word.iter().copied());
            }
            9 => self.pieces(bytes),
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let to = from + self.below(other.len() - from + 1);
                bytes.splice(range, other[from..to].iter().copied());
            }
        }
    }

    /// Where one of the numbers stands; if there is none, an empty place.
    fn digits(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let starts =
            |at: &usize| bytes[*at].is_ascii_digit() && (*at == 0 || !bytes[*at - 1].is_ascii_digit());
        let all: Vec<usize> = (0..bytes.len()).filter(starts).collect();
        if all.is_empty() {
            let at = self.below(bytes.len() + 1);
            return at..at;
        }
        let from = all[self.below(all.len())];
        from..bytes[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |n| from + n)
    }

    /// Swaps, doubles or leaves out one of the pieces between separators.
    fn pieces(&mut self, bytes: &mut Vec<u8>) {
        let separator = [b'\n', b' ', b'/', b',', b'\t', b':', b'&'][self.below(7)];
        let mut pieces: Vec<Vec<u8>> = bytes.split(|byte| *byte == separator).map(<[u8]>::to_vec).collect();
        let (one, other) = (self.below(pieces.len()), self.below(pieces.len()));
        match self.below(3) {
            0 => pieces.swap(one, other),
            1 => pieces.insert(one, pieces[other].clone()),
            _ => drop(pieces.remove(one)),
        }
        *bytes = pieces.join(&separator);
    }
}
