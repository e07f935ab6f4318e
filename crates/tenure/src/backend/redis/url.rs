//! Where the server is and how to reach it: a URL, read once.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::stream::Tls;
use crate::error::{Error, Result};
use crate::url::{Secret, StoreUrl};

/// The port of a URL that names none.
const PORT: u16 = 6379;

/// A server.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// For people, without the password.
    pub(super) shown: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: u32,
    pub(super) tls: Option<Tls>,
    /// The dialect's prefix of keys, where the dialect is spoken.
    pub(super) dialect: Option<String>,
    /// It is one of several servers that vote.
    pub(super) votes: bool,
}

impl Target {
    /// Reads a URL.
    pub(super) fn new(mut url: StoreUrl, dialect: bool) -> Result<Target> {
        let shown = url.redacted();
        let secure = url.scheme.starts_with("rediss");
        let mut take = |key: &str, has: bool| if has { url.take(key) } else { Ok(None) };
        let ca = take("tls-ca", secure)?;
        let cert = take("tls-cert", secure)?;
        let key = take("tls-key", secure)?;
        let prefix = take("prefix", dialect)?.unwrap_or_default();
        let speaks = dialect.then_some(prefix);
        url.finish(match (secure, dialect) {
            (true, true) => &["prefix", "tls-ca", "tls-cert", "tls-key"],
            (true, false) => &["tls-ca", "tls-cert", "tls-key"],
            (false, true) => &["prefix"],
            (false, false) => &[],
        })?;
        let [(host, port)] = &url.hosts[..] else {
            return Err(match url.hosts.len() {
                0 => Error::config("the store URL names no host", "write it like redis://127.0.0.1"),
                n => Error::unsupported(
                    format!("the store URL names {n} hosts"),
                    "name one server; Redis Sentinel and Redis Cluster are not built yet",
                ),
            });
        };
        let database = url.path.trim_start_matches('/');
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database.map_err(|_| {
            let advice = "write the number of a database, like redis://127.0.0.1/2, or leave it out";
            Error::config(format!("{:?} is not a database", url.path), advice)
        })?;
        let tls =
            if secure { Some(tls(host, ca.as_deref(), cert.as_deref(), key.as_deref())?) } else { None };
        if url.user.is_some() && url.password.is_none() {
            return Err(Error::config(
                "the store URL has a user without a password",
                "give the password too, in the URL or in TENURE_PASSWORD",
            ));
        }
        let port = port.unwrap_or(PORT);
        Ok(Target {
            shown,
            host: host.clone(),
            port,
            user: url.user,
            password: url.password,
            database,
            tls,
            dialect: speaks,
            votes: false,
        })
    }

    /// One of several servers.
    pub(super) fn voter(mut url: StoreUrl, (host, port): (String, Option<u16>)) -> Result<Target> {
        url.hosts = vec![(host, port)];
        Ok(Target { votes: true, ..Target::new(url, false)? })
    }
}

/// TLS towards `host`. The provider of its algorithms is named here: which other crates of the program bring one, or
/// several, decides nothing.
fn tls(host: &str, ca: Option<&str>, cert: Option<&str>, key: Option<&str>) -> Result<Tls> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for found in certificates(path)? {
                let broken = |e| {
                    Error::config(format!("{path} holds a certificate that is none"), "check it").because(e)
                };
                roots.add(found).map_err(broken)?;
            }
        }
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() {
        let what = ca.map_or("this machine has no root certificates".to_owned(), |p| {
            format!("{p} holds no certificate")
        });
        return Err(Error::config(what, "name a file of them with tls-ca="));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let broken = |e| Error::config("TLS cannot be set up", "check the certificate and the key").because(e);
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(broken)?.with_root_certificates(roots);
    let config = match (cert, key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| {
                Error::config(format!("{key} holds no private key"), "name a PEM file").because(e)
            })?;
            builder.with_client_auth_cert(certificates(cert)?, secret).map_err(broken)?
        }
        _ => return Err(Error::config("only one of tls-cert and tls-key is given", "give both or none")),
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|e| {
        Error::config(format!("{host:?} is no name that TLS can check"), "check the URL").because(e)
    })?;
    Ok(Tls { config: Arc::new(config), name })
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable =
        |e| Error::config(format!("{path} cannot be read as certificates"), "name a PEM file").because(e);
    let found = CertificateDer::pem_file_iter(Path::new(path)).map_err(unreadable)?;
    found.collect::<Result<Vec<_>, _>>().map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn target(text: &str) -> Result<Target> {
        Target::new(StoreUrl::parse(text).expect("a URL"), text.contains("setnx"))
    }

    #[test]
    fn urls_are_read() {
        let t = target("redis://ann:s3cret@[::1]:7000/3").expect("good");
        assert_eq!((t.host.as_str(), t.port, t.database, t.user.as_deref()), ("::1", 7000, 3, Some("ann")));
        assert!(!format!("{t:?}").contains("s3cret"));
        let t = target("redis+setnx://h?prefix=job%3A").expect("good");
        assert_eq!((t.port, t.database, t.dialect.as_deref()), (PORT, 0, Some("job:")));
    }

    #[test]
    fn bad_urls_are_refused() {
        for (text, kind) in [
            ("redis://", ErrorKind::Config),
            ("redis://h/x", ErrorKind::Config),
            ("redis://h/-1", ErrorKind::Config),
            ("redis://h?prefix=a", ErrorKind::Config),
            ("redis://h?tls-ca=a", ErrorKind::Config),
            ("redis://u@h", ErrorKind::Config),
            ("redis://a,b", ErrorKind::Unsupported),
            ("rediss://h?tls-ca=/nonexistent", ErrorKind::Config),
            ("rediss://h?tls-cert=/nonexistent", ErrorKind::Config),
        ] {
            assert_eq!(target(text).expect_err(text).kind(), kind, "{text}");
        }
    }
}
