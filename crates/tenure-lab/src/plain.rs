//! A Redis connection as plain as they come: what programs without Tenure use, so that they can be compared with it.

use std::time::Duration;

use tenure::{Secret, StoreUrl};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::failure::{Doing, Failure, Outcome};

/// The schemes that it can reach.
const SCHEMES: [&str; 2] = ["redis", "redis+setnx"];
/// The port of a URL that names none.
const PORT: u16 = 6379;
/// The longest answer that it takes: `INFO` has some kB.
const LONGEST: usize = 1 << 20;

/// Whether a URL's scheme is one that a plain connection can reach: Redis without TLS.
pub(crate) fn reaches(url: &str) -> bool {
    url.split(':').next().is_some_and(|scheme| SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// Deletes a key if it still has this value.
const COMPARE_AND_DELETE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

/// One connection.
#[derive(Debug)]
pub(crate) struct Plain {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A line or a string.
    Text(String),
    /// A number.
    Number(i64),
    /// Several of these.
    List(Vec<Said>),
    /// Nothing.
    Nil,
}

impl Plain {
    /// Connects, with what the URL says.
    pub(crate) async fn connect(url: &str) -> Outcome<Plain> {
        let parsed = StoreUrl::parse(url)?;
        let shown = parsed.redacted();
        let Some((host, port)) = parsed.hosts.first().filter(|_| reaches(url)) else {
            return Err(Failure::config(
                format!("{shown} cannot be reached by a plain connection"),
                "use redis://HOST, without TLS",
            ));
        };
        let stream = TcpStream::connect((host.as_str(), port.unwrap_or(PORT))).await;
        let stream = stream.doing(|| format!("reach {shown}"))?;
        stream.set_nodelay(true).doing(|| "set up a connection".into())?;
        let mut plain = Plain { stream: BufReader::new(stream), request: Vec::new() };
        if let Some(password) = parsed.password.as_ref().map(Secret::expose) {
            let user = parsed.user.as_deref().unwrap_or("default");
            plain.ask(&["AUTH", user, password]).await?;
        }
        let database = parsed.path.trim_start_matches('/');
        if !database.is_empty() {
            plain.ask(&["SELECT", database]).await?;
        }
        Ok(plain)
    }

    /// One request and its answer.
    pub(crate) async fn ask(&mut self, words: &[&str]) -> Outcome<Said> {
        self.request.clear();
        self.request.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            self.request.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
        self.stream.write_all(&self.request).await.doing(|| "ask the server".into())?;
        self.hear().await
    }

    async fn hear(&mut self) -> Outcome<Said> {
        let line = self.line().await?;
        let (kind, rest) = line.split_at(line.len().min(1));
        match (kind, rest.parse::<i64>()) {
            ("+", _) => Ok(Said::Text(rest.to_owned())),
            (":", Ok(number)) => Ok(Said::Number(number)),
            ("_", _) | ("$", Ok(-1)) => Ok(Said::Nil),
            ("$", Ok(length)) => self.string(length).await,
            ("*", Ok(-1)) => Ok(Said::Nil),
            ("*", Ok(count)) => {
                let mut all = Vec::new();
                for _ in 0..count {
                    all.push(Box::pin(self.hear()).await?);
                }
                Ok(Said::List(all))
            }
            ("-", _) => Err(Failure::config(
                format!("the server refuses: {rest}"),
                "check user, password and permissions",
            )),
            _ => Err(Failure::run("the server answers with something else", "check that it is Redis")),
        }
    }

    async fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        let n = self.stream.read_line(&mut line).await.doing(|| "hear the server".into())?;
        if n == 0 {
            return Err(Failure::run("the server closed the connection", "look at its log"));
        }
        Ok(line.trim_end().to_owned())
    }

    async fn string(&mut self, length: i64) -> Outcome<Said> {
        let length = usize::try_from(length).ok().filter(|n| *n <= LONGEST);
        let Some(length) = length else {
            return Err(Failure::run("the server's answer is too long", "check that it is Redis"));
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).await.doing(|| "hear the server".into())?;
        bytes.truncate(length);
        Ok(Said::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// `SET key value NX PX ttl`: whether it was set.
    pub(crate) async fn set_if_absent(&mut self, key: &str, value: &str, ttl: Duration) -> Outcome<bool> {
        let ms = ttl.as_millis().max(1).to_string();
        Ok(self.ask(&["SET", key, value, "NX", "PX", &ms]).await? != Said::Nil)
    }

    /// `DEL key`, whoever has set it.
    pub(crate) async fn delete(&mut self, key: &str) -> Outcome<()> {
        self.ask(&["DEL", key]).await.map(drop)
    }

    /// Deletes a key if it has this value: whether it had.
    pub(crate) async fn delete_own(&mut self, key: &str, value: &str) -> Outcome<bool> {
        Ok(self.ask(&["EVAL", COMPARE_AND_DELETE, "1", key, value]).await? == Said::Number(1))
    }

    /// Whether it answers.
    pub(crate) async fn ping(&mut self) -> Outcome<()> {
        self.ask(&["PING"]).await.map(drop)
    }

    /// A number of a section of `INFO`.
    pub(crate) async fn info(&mut self, section: &str, field: &str) -> Outcome<Option<f64>> {
        let Said::Text(text) = self.ask(&["INFO", section]).await? else { return Ok(None) };
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.find(|(name, _)| *name == field).and_then(|(_, value)| value.trim().parse().ok()))
    }
}
