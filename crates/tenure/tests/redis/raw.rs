//! Redis's older protocol over a blocking socket: a client that shares no code with the one under test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Nil,
    Int(i64),
    Text(String),
    Error(String),
    List(Vec<Said>),
}

impl Said {
    pub(crate) fn text(&self) -> &str {
        match self {
            Said::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    pub(crate) fn list(&self) -> &[Said] {
        match self {
            Said::List(list) => list,
            other => panic!("not a list: {other:?}"),
        }
    }

    pub(crate) fn number(&self) -> i64 {
        match self {
            Said::Int(n) => *n,
            other => other.text().parse().expect("digits"),
        }
    }
}

pub(crate) struct Raw(BufReader<TcpStream>);

impl Raw {
    pub(crate) fn new(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        Raw(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, words: &[&str]) {
        let mut out = format!("*{}\r\n", words.len());
        for word in words {
            out += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(out.as_bytes()).expect("sent");
    }

    pub(crate) fn hear(&mut self) -> Said {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Said::Text(rest.to_owned()),
            "-" => Said::Error(rest.to_owned()),
            ":" => Said::Int(rest.parse().expect("digits")),
            "$" if rest == "-1" => Said::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("digits") + 2];
                self.0.read_exact(&mut bytes).expect("a text");
                bytes.truncate(bytes.len() - 2);
                Said::Text(String::from_utf8(bytes).expect("UTF-8"))
            }
            "*" if rest == "-1" => Said::Nil,
            "*" => Said::List((0..rest.parse().expect("digits")).map(|_| self.hear()).collect()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask(&mut self, words: &[&str]) -> Said {
        self.send(words);
        self.hear()
    }
}
