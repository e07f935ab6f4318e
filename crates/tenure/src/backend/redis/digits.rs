//! Numbers as text. Every verb writes a dozen of them, and the formatting machinery of `format!` would cost more than all
//! else that this side does for a verb.

use std::time::Duration;

/// Appends a number, with zeros before it where it has less than `width` digits (1 to 20).
pub(super) fn push(out: &mut String, number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let from = write(&mut digits, number).min(20_usize.saturating_sub(width));
    out.push_str(std::str::from_utf8(&digits[from..]).unwrap_or_default());
}

/// A number with zeros before it where it has less than `width` digits (1 to 20).
pub(super) fn padded(number: u64, width: usize) -> String {
    let mut out = String::with_capacity(20);
    push(&mut out, number, width);
    out
}

/// Appends a number as it is.
pub(super) fn plain(out: &mut Vec<u8>, number: u64) {
    let mut digits = [b'0'; 20];
    let from = write(&mut digits, number).min(19);
    out.extend_from_slice(&digits[from..]);
}

/// A number as 32 hexadecimal digits.
pub(super) fn hex(number: u128) -> String {
    let mut digits = [0; 32];
    for (two, byte) in digits.as_chunks_mut().0.iter_mut().zip(number.to_be_bytes()) {
        *two = [byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]);
    }
    std::str::from_utf8(&digits).unwrap_or_default().to_owned()
}

/// A time in µs, of at most 16 digits.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(9_000_000_000_000_000)
}

/// The number that these digits are, and nothing but digits.
pub(super) fn number(text: &str) -> Option<u64> {
    // A sign would be let pass.
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The number that [`hex`] has written.
pub(super) fn unhex(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok().filter(|number| hex(*number) == text)
}

/// Writes a number to the end of `digits`; nothing for 0. Where it begins.
fn write(digits: &mut [u8; 20], mut number: u64) -> usize {
    let mut from = digits.len();
    while number > 0 {
        from -= 1;
        #[allow(clippy::cast_possible_truncation)] // below ten
        let digit = (number % 10) as u8;
        digits[from] = b'0' + digit;
        number /= 10;
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_formatting_machinery_does() {
        for number in [0, 1, 9, 10, 1_795_317_491_101_340, u64::MAX] {
            for width in [1, 10, 16, 20] {
                assert_eq!(padded(number, width), format!("{number:0width$}"));
            }
            let mut out = Vec::new();
            plain(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for number in [0, 255, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            assert_eq!(hex(number), format!("{number:032x}"));
            assert_eq!(unhex(&hex(number)), Some(number));
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(
            (number("0000000000000042"), number("0"), number("18446744073709551615")),
            (Some(42), Some(0), Some(u64::MAX))
        );
        for bad in ["", "+42", "-1", " 42", "42 ", "4_2", "18446744073709551616"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        for bad in ["", "ff", "+00000000000000000000000000000ff", "000000000000000000000000000000FF"] {
            assert_eq!(unhex(bad), None, "{bad:?}");
        }
    }
}
