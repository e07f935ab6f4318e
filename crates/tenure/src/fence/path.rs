//! Which paths of a URL name the same resource.

/// The canonical spelling of a path: equal for all paths that a service may take for the same resource. `None`: a percent
/// sign is not followed by two hexadecimal digits.
///
/// - Percent-encoded bytes are decoded: `%7Ex` is `~x`, `%C3%A4` is `%c3%a4`, `%3A` is `:` (RFC 3986, 6.2.2.1 and 6.2.2.2,
///   and the reserved characters too, since most services decode them).
/// - `.` and `..` are removed (6.2.2.3), also if they are encoded.
/// - Empty segments do not count: `//x`, `/x/` and `/x` are one resource. Neither does an encoded slash: `%2F` is `/`.
/// - Case matters, and so does Unicode composition.
///
/// In doubt, two paths count as one: a shared fence can refuse too much, but two fences of one resource let a stale token in.
pub(super) fn canonical(path: &str) -> Option<String> {
    let decoded = decoded(path)?;
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut text = String::new();
    for segment in segments {
        text.push('/');
        for byte in segment {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                text.push(char::from(*byte));
            } else {
                text += &format!("%{byte:02X}");
            }
        }
    }
    Some(if text.is_empty() { "/".to_owned() } else { text })
}

fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|n| u8::try_from(n).ok());
            digit()? << 4 | digit()?
        } else {
            byte
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_of_a_resource_are_one() {
        for (same, canon) in [
            (
                &[
                    "/stock/7",
                    "//stock/7",
                    "/stock//7",
                    "/stock/7/",
                    "/./stock/7",
                    "/stock/./7",
                    "/x/../stock/7",
                ][..],
                "/stock/7",
            ),
            (
                &[
                    "/stock/7",
                    "/%73tock/7",
                    "/stock/%37",
                    "/%2E/stock/7",
                    "/x/%2e%2E/stock/7",
                    "/../stock/7",
                    "/stock%2F7",
                ],
                "/stock/7",
            ),
            (&["/~x", "/%7Ex", "/%7ex"], "/~x"),
            (&["/%C3%A4", "/%c3%a4", "/%c3%A4"], "/%C3%A4"),
            (&["/a:b", "/a%3Ab", "/a%3ab"], "/a%3Ab"),
            (&["/a%20b", "/a%20b/"], "/a%20b"),
            (&["", "/", "//", "/.", "/a/..", "/%2f"], "/"),
        ] {
            for path in same {
                assert_eq!(canonical(path).as_deref(), Some(canon), "{path}");
            }
        }
    }

    #[test]
    fn different_resources_stay_apart() {
        let apart = [
            "/", "/a", "/A", "/a/b", "/ab", "/a%20", "/a+", "/a%252Fb", "/a%25", "/.a", "/...", "/%C3%A4",
            "/a%CC%88", "/%E4", "/a%00", "*",
        ];
        let mut all: Vec<_> = apart.iter().map(|path| canonical(path).expect(path)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), apart.len(), "{all:?}");
        for path in &all {
            assert_eq!(canonical(path).as_ref(), Some(path), "a canonical path stays as it is");
        }
    }

    #[test]
    fn a_broken_encoding_is_no_path() {
        for path in ["/%", "/%4", "/%zz", "/%4g", "/a%", "/%%41", "/%+1"] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }
}
