//! Which order of tokens a server gives.
//!
//! Tokens are times of the server's clock, so they go on growing after a restart, a failover and a loss of all data, and
//! the name of their order must outlive those too. So nothing that is kept with the data can be it: it is the address by
//! which the client knows the server. Where clients know one server by several addresses, an operator gives it one name
//! for all, in the key `tenure:domain`; nobody else writes that.

use std::net::IpAddr;

use super::client::Client;
use super::names::NAME;
use super::resp::Value;
use super::url::Target;
use crate::backend::Errand;
use crate::backend::net::Why;
use crate::domain::Domain;
use crate::error::{Error, ErrorKind, Result};

/// What the record begins with: the version of its format.
const VERSION: char = '1';

/// The domain of a server's tokens.
pub(super) async fn domain(client: &Client, backend: &str) -> Result<Domain> {
    let get: [&[u8]; 2] = [b"GET", NAME.as_bytes()];
    let given = client.command(Errand::Awaited, &get).await.map_err(|why| unread(why).error())?;
    if given == Value::Nil {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        return Domain::of(backend, &own_name(&client.target, &node));
    }
    let name = given.text().and_then(|text| text.strip_prefix(VERSION)).filter(|name| !name.is_empty());
    match name {
        Some(name) => Domain::of(backend, name),
        None => Err(Error::protocol(
            format!("the key {NAME} of this server holds no name"),
            "write it as the digit 1 and a name, or remove it",
        )),
    }
}

/// A user whose keys are those of a namespace may lack this one.
fn unread(why: Why) -> Why {
    if why.kind != ErrorKind::Denied {
        return why;
    }
    let what = format!("the key {NAME}, the name of the order of tokens, cannot be read: {}", why.what);
    Why::new(ErrorKind::Denied, what, concat!("permit the user ~tenure:domain too; ", permissions!()))
}

/// What a client would call its server. An address that means another machine everywhere else becomes this machine's name.
fn own_name(target: &Target, node: &str) -> String {
    let host = target.host.to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let here =
        bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip.is_unspecified());
    let host = match (here, bare.contains(':')) {
        (true, _) => node.to_owned(),
        (false, true) => format!("[{bare}]"),
        (false, false) => bare.to_owned(),
    };
    format!("{host}:{}/{}", target.port, target.database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::StoreUrl;

    #[test]
    fn a_server_is_called_by_an_address_that_means_the_same_everywhere() {
        let name = |url: &str| {
            let url = StoreUrl::parse(url).expect(url);
            own_name(&Target::new(url, false).expect("a server"), "web-1")
        };
        assert_eq!(name("redis://Cache.internal"), "cache.internal:6379/0");
        assert_eq!(name("redis://10.0.0.5:7000/2"), "10.0.0.5:7000/2");
        assert_eq!(name("redis://u:pw@[2001:db8::1]"), "[2001:db8::1]:6379/0");
        for here in ["redis://127.0.0.1", "redis://localhost", "redis://[::1]", "redis://127.0.0.2"] {
            assert_eq!(name(here), "web-1:6379/0", "{here}");
        }
    }
}
