//! A witness: a Redis client by another author, which shares no code with the one under test.

use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionLike, IntoConnectionInfo, RedisConnectionInfo, Value,
};

/// What the server says, as trials read it.
pub(crate) trait Said {
    fn text(&self) -> &str;
    fn list(&self) -> &[Value];
    fn number(&self) -> i64;
}

impl Said for Value {
    fn text(&self) -> &str {
        match self {
            Value::BulkString(bytes) => str::from_utf8(bytes).expect("UTF-8"),
            Value::SimpleString(text) => text,
            Value::Okay => "OK",
            other => panic!("not a text: {other:?}"),
        }
    }

    fn list(&self) -> &[Value] {
        match self {
            Value::Array(list) => list,
            other => panic!("not a list: {other:?}"),
        }
    }

    fn number(&self) -> i64 {
        match self {
            Value::Int(n) => *n,
            other => other.text().parse().expect("digits"),
        }
    }
}

/// One connection. It may subscribe, and hears messages then.
pub(crate) struct Raw(Connection);

impl Raw {
    pub(crate) fn new(port: u16) -> Raw {
        let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), port);
        let info = address.into_connection_info().expect("an address");
        let info = info.set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name());
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Raw(Client::open(info).and_then(|client| client.get_connection()).expect("connects"))
    }

    /// The next message to a subscriber.
    pub(crate) fn hear(&mut self) -> Value {
        self.0.recv_response().expect("a message")
    }

    /// The answer to a command; an error of the server fails the trial.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Value {
        let mut command = Cmd::new();
        command.arg(words);
        let answer = self.0.req_command(&command).and_then(Value::extract_error);
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}
