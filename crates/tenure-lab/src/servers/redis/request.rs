//! The requests of a Redis client: arrays of strings. Read by hand, since this is the server's side of the protocol, and one
//! request at a time is taken off a stream that others may go on reading: the parser of the crate `redis` reads ahead.

use std::io::{self, BufRead};

/// Reads the next request, and changes the script that it loads, if it loads one.
pub(super) fn next(
    from: &mut dyn BufRead,
    change: &mut dyn FnMut(&str) -> String,
) -> io::Result<Option<Vec<u8>>> {
    let Some(mut words) = words(from)? else { return Ok(None) };
    if let [script, load, source] = &mut words[..]
        && (script.as_slice(), load.as_slice()) == (b"SCRIPT", b"LOAD")
        && let Ok(text) = str::from_utf8(source)
    {
        *source = change(text).into_bytes();
    }
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(&word);
        out.extend_from_slice(b"\r\n");
    }
    Ok(Some(out))
}

/// The next request of a client: an array of strings. `None`: it has hung up.
fn words(from: &mut dyn BufRead) -> io::Result<Option<Vec<Vec<u8>>>> {
    let Some(count) = number(from, b'*')? else { return Ok(None) };
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(from, b'$')?.unwrap_or(0);
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word)?;
        word.truncate(length);
        words.push(word);
    }
    Ok(Some(words))
}

fn number(from: &mut dyn BufRead, kind: u8) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let digits = line.strip_prefix(char::from(kind)).and_then(|rest| rest.trim_end().parse().ok());
    digits.map(Some).ok_or_else(|| io::Error::other("not a request"))
}
