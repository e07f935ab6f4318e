//! RESP3, the protocol between a client and Redis: commands out, values in.
//!
//! What comes in is bounded: a server that answers nonsense costs a connection, never this process's memory.

use std::fmt;

use super::digits;

/// The longest frame that is taken in, in bytes. The largest honest one is a page of `inspect`.
pub(super) const FRAME_MAX: usize = 64 << 20;
/// The longest line (a number, an error), in bytes.
const LINE_MAX: usize = 64 << 10;
/// The most values in one frame.
const VALUES_MAX: usize = 1 << 20;
/// Room that is made for a list before its values have come.
const ROOM: usize = 16;
/// How deep values nest.
const DEPTH_MAX: usize = 8;

/// A value that the server sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    Error(String),
    /// An array, a set, or a map with keys and values in turn.
    List(Vec<Value>),
    /// Sent unasked.
    Push(Vec<Value>),
}

impl Value {
    /// The bytes of a text.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A text that is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The values of a list.
    pub(super) fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(values) => Some(values),
            _ => None,
        }
    }

    /// A number, also one that was sent as digits.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            other => other.text()?.parse().ok(),
        }
    }
}

/// The bytes are not RESP3, or more than is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage(pub(super) &'static str);

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What parsing found.
#[derive(Debug, PartialEq)]
pub(super) enum Parsed {
    /// A value, and how many bytes it took.
    Whole(Value, usize),
    /// It cannot be whole before there are this many bytes.
    More(usize),
}

/// Parses the first value in `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Garbage> {
    let mut reader = Reader { bytes, at: 0, values: 0 };
    match reader.value(0) {
        Ok(value) => Ok(Parsed::Whole(value, reader.at)),
        Err(Stop::More(most)) if most <= FRAME_MAX => Ok(Parsed::More(most)),
        Err(Stop::More(_)) => Err(Garbage("an answer is longer than 64 MiB")),
        Err(Stop::Garbage(why)) => Err(Garbage(why)),
    }
}

enum Stop {
    More(usize),
    Garbage(&'static str),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Err(Stop::Garbage("an answer nests too deep or has too many values"));
        }
        let kind = *self.bytes.get(self.at).ok_or(Stop::More(self.at + 1))?;
        let line_at = self.at + 1;
        match kind {
            b'+' | b'(' | b',' => Ok(Value::Text(self.line(line_at)?.to_vec())),
            b'#' => match self.line(line_at)? {
                b"t" => Ok(Value::Int(1)),
                b"f" => Ok(Value::Int(0)),
                _ => Err(Stop::Garbage("an answer holds a boolean that is neither t nor f")),
            },
            b'-' => Ok(Value::Error(String::from_utf8_lossy(self.line(line_at)?).into_owned())),
            b':' => self.integer(line_at).map(Value::Int),
            b'_' => self.line(line_at).map(|_| Value::Nil),
            b'$' | b'=' | b'!' => self.blob(kind, line_at),
            b'*' | b'~' => Ok(self.list(line_at, 1, depth)?.map_or(Value::Nil, Value::List)),
            b'%' => Ok(self.list(line_at, 2, depth)?.map_or(Value::Nil, Value::List)),
            b'>' => self.list(line_at, 1, depth)?.map(Value::Push).ok_or(Stop::Garbage("a push is nil")),
            // Attributes tell about the value that follows; we ask for none.
            b'|' => self.list(line_at, 2, depth).and_then(|_| self.value(depth + 1)),
            _ => Err(Stop::Garbage("an answer begins with a byte that no RESP value begins with")),
        }
    }

    /// The line from `from` on, without its end; moves behind it.
    fn line(&mut self, from: usize) -> Result<&'a [u8], Stop> {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let Some(length) = rest.iter().take(LINE_MAX + 1).position(|b| *b == b'\r') else {
            return Err(if rest.len() > LINE_MAX {
                Stop::Garbage("an answer holds a line without an end")
            } else {
                Stop::More(self.bytes.len() + 1)
            });
        };
        match rest.get(length + 1) {
            Some(b'\n') => {
                self.at = from + length + 2;
                Ok(&rest[..length])
            }
            Some(_) => Err(Stop::Garbage("an answer holds a line with a wrong end")),
            None => Err(Stop::More(from + length + 2)),
        }
    }

    fn integer(&mut self, from: usize) -> Result<i64, Stop> {
        let line = self.line(from)?;
        let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        number.ok_or(Stop::Garbage("an answer holds a number that is none"))
    }

    /// A length; `None` for the -1 of older protocols.
    fn length(&mut self, from: usize) -> Result<Option<usize>, Stop> {
        match self.integer(from)? {
            -1 => Ok(None),
            n => usize::try_from(n).map(Some).map_err(|_| Stop::Garbage("an answer holds a negative length")),
        }
    }

    fn blob(&mut self, kind: u8, line_at: usize) -> Result<Value, Stop> {
        let Some(length) = self.length(line_at)? else { return Ok(Value::Nil) };
        let end = self.at.saturating_add(length);
        if end > FRAME_MAX {
            return Err(Stop::Garbage("an answer is longer than 64 MiB"));
        }
        let Some(tail) = self.bytes.get(end..end + 2) else { return Err(Stop::More(end + 2)) };
        if tail != b"\r\n" {
            return Err(Stop::Garbage("an answer holds a text of another length than it says"));
        }
        let text = &self.bytes[self.at..end];
        self.at = end + 2;
        Ok(match kind {
            b'!' => Value::Error(String::from_utf8_lossy(text).into_owned()),
            // Three letters of format and a colon go before the text itself.
            b'=' => Value::Text(text.get(4..).unwrap_or_default().to_vec()),
            _ => Value::Text(text.to_vec()),
        })
    }

    fn list(&mut self, line_at: usize, each: usize, depth: usize) -> Result<Option<Vec<Value>>, Stop> {
        let Some(length) = self.length(line_at)? else { return Ok(None) };
        let length = length.saturating_mul(each);
        if length > VALUES_MAX {
            return Err(Stop::Garbage("an answer nests too deep or has too many values"));
        }
        // What is announced may never come, and every list in a list may announce as much: room is made as values come.
        let mut values = Vec::with_capacity(length.min(ROOM));
        for _ in 0..length {
            values.push(self.value(depth + 1)?);
        }
        Ok(Some(values))
    }
}

/// Whether a push answers a subscription.
pub(super) fn subscribed(values: &[Value]) -> bool {
    values.first().and_then(Value::text).is_some_and(|kind| kind == "subscribe" || kind == "unsubscribe")
}

/// Appends a command of these arguments.
pub(super) fn encode(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    head(out, b'*', arguments.len());
    arguments.iter().for_each(|argument| text(out, argument));
}

/// Appends one text.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A command of these arguments.
pub(super) fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + arguments.iter().map(|a| a.len() + 16).sum::<usize>());
    encode(&mut out, arguments);
    out
}

/// Adds the beginning of a frame: what it is, and how many bytes or values follow.
pub(super) fn head(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    digits::plain(out, number as u64);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(t: &str) -> Value {
        Value::Text(t.as_bytes().to_vec())
    }

    #[test]
    fn every_kind_of_value_parses_and_every_prefix_of_it_asks_for_more() {
        let cases: &[(&str, Value)] = &[
            ("+OK\r\n", text("OK")),
            ("-ERR no\r\n", Value::Error("ERR no".into())),
            (":-42\r\n", Value::Int(-42)),
            ("$5\r\na\r\nbc\r\n", text("a\r\nbc")),
            ("$-1\r\n", Value::Nil),
            ("_\r\n", Value::Nil),
            ("#t\r\n", Value::Int(1)),
            (",1.5\r\n", text("1.5")),
            ("(123456789012345678901234567890\r\n", text("123456789012345678901234567890")),
            ("=8\r\ntxt:role\r\n", text("role")),
            ("!5\r\nERR x\r\n", Value::Error("ERR x".into())),
            ("*2\r\n:1\r\n*1\r\n$1\r\na\r\n", Value::List(vec![Value::Int(1), Value::List(vec![text("a")])])),
            ("%1\r\n+k\r\n:1\r\n", Value::List(vec![text("k"), Value::Int(1)])),
            ("~1\r\n:1\r\n", Value::List(vec![Value::Int(1)])),
            (">2\r\n+message\r\n+x\r\n", Value::Push(vec![text("message"), text("x")])),
            ("|1\r\n+ttl\r\n:1\r\n:2\r\n", Value::Int(2)),
        ];
        for (wire, value) in cases {
            let bytes = wire.as_bytes();
            assert_eq!(parse(bytes), Ok(Parsed::Whole(value.clone(), bytes.len())), "{wire:?}");
            let mut followed = bytes.to_vec();
            followed.extend_from_slice(b"+next\r\n");
            assert_eq!(parse(&followed), Ok(Parsed::Whole(value.clone(), bytes.len())), "{wire:?}");
            for cut in 0..bytes.len() {
                match parse(&bytes[..cut]) {
                    Ok(Parsed::More(most)) => {
                        assert!(most > cut && most <= bytes.len(), "{wire:?} cut at {cut}: {most}")
                    }
                    other => panic!("{wire:?} cut at {cut}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn nonsense_is_garbage_and_costs_no_memory() {
        let endless = format!("+{}", "x".repeat(LINE_MAX + 2));
        let deep = "*1\r\n".repeat(DEPTH_MAX + 2);
        for wire in [
            "HTTP/1.1 400 Bad Request\r\n",
            "\r\n",
            ":x\r\n",
            ":\r\n",
            "$x\r\n",
            "$-2\r\n",
            "*-7\r\n",
            "#x\r\n",
            "$2\r\nabc\r\n",
            "$9999999999\r\n",
            "*9999999999\r\n",
            "%600000\r\n",
            "$9223372036854775807\r\n",
            "*9223372036854775807\r\n",
            ">-1\r\n",
            "+a\rb\r\n",
            &endless,
            &deep,
        ] {
            assert!(parse(wire.as_bytes()).is_err(), "{:?}", &wire[..wire.len().min(40)]);
        }
    }

    #[test]
    fn commands_are_arrays_of_texts() {
        assert_eq!(command(&[b"GET", b"a\r\nb", b""]), b"*3\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n$0\r\n\r\n");
        let mut out = Vec::new();
        head(&mut out, b'*', 1_234_567_890);
        assert_eq!(out, b"*1234567890\r\n");
    }
}
