//! TLS with roots of our own, and with a certificate of the client's own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tenure::{ErrorKind, Locks};

use crate::server::{Dir, Server, free_port};
use crate::{multi, single, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("tls::own_roots_and_own_certificates", own_roots_and_own_certificates)]
}

/// A root, and what it signed.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    pem: PathBuf,
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

impl Root {
    fn new(dir: &Path, name: &str) -> Root {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = write(dir, &format!("{name}.pem"), &params.self_signed(&key).expect("signed").pem());
        Root { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these addresses, and its key.
    fn signs(&self, dir: &Path, name: &str, addresses: &[Ipv4Addr]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.subject_alt_names = addresses.iter().map(|ip| SanType::IpAddress(IpAddr::V4(*ip))).collect();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.signed_by(&key, &self.issuer).expect("signed").pem();
        (write(dir, &format!("{name}.pem"), &pem), write(dir, &format!("{name}.key"), &key.serialize_pem()))
    }
}

/// A server that speaks TLS on the port told: to clients with a certificate only, if `mutual`.
fn server(root: &Root, (cert, key): &(PathBuf, PathBuf), mutual: bool) -> (Server, u16) {
    let port = free_port().expect("a free port");
    let (shown, text) = (port.to_string(), |path: &Path| path.display().to_string());
    let server = Server::with(&[
        "--tls-port",
        &shown,
        "--tls-cert-file",
        &text(cert),
        "--tls-key-file",
        &text(key),
        "--tls-ca-cert-file",
        &text(&root.pem),
        "--tls-auth-clients",
        if mutual { "yes" } else { "no" },
    ]);
    (server, port)
}

async fn works(url: &str) {
    let locks = Locks::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
    let guard = locks.mutex("x").expect("a name").lock().await.expect("free");
    let mut watch = locks.watch("").expect("a prefix");
    assert_eq!(watch.next().await.expect("listed").len(), 1);
    guard.release().await.expect("ours");
    locks.close().await.expect("closes");
}

async fn refused(url: &str, kind: ErrorKind) {
    let error = Locks::connect(url).await.expect_err(url);
    assert_eq!(error.kind(), kind, "{url}: {error:?}");
}

fn own_roots_and_own_certificates() {
    let dir = Dir::new("tls").expect("a directory");
    let (ours, theirs) = (Root::new(&dir.0, "ours"), Root::new(&dir.0, "theirs"));
    let here = ours.signs(&dir.0, "here", &[Ipv4Addr::LOCALHOST]);
    let elsewhere = ours.signs(&dir.0, "elsewhere", &[Ipv4Addr::new(10, 0, 0, 1)]);
    let (client, stranger) = (ours.signs(&dir.0, "client", &[]), theirs.signs(&dir.0, "stranger", &[]));
    let (plain, port) = server(&ours, &here, false);
    let (_mutual, mutual_port) = server(&ours, &here, true);
    let (_other, other_port) = server(&ours, &elsewhere, false);
    let url = |scheme: &str, port: u16, rest: &str| {
        format!("{scheme}://127.0.0.1:{port}?tls-ca={}{rest}", ours.pem.display())
    };
    let with =
        |(cert, key): &(PathBuf, PathBuf)| format!("&tls-cert={}&tls-key={}", cert.display(), key.display());
    for runtime in [single(), multi()] {
        runtime.block_on(async {
            works(&url("rediss", port, "")).await;
            works(&url("rediss+setnx", port, "&prefix=p:")).await;
            works(&url("rediss", mutual_port, &with(&client))).await;
        });
    }
    multi().block_on(async {
        // Roots that did not sign it: the machine's, and somebody's.
        let machine = Locks::connect(&format!("rediss://127.0.0.1:{port}")).await.expect_err("not signed");
        // A machine without any roots says so.
        assert!([ErrorKind::Denied, ErrorKind::Config].contains(&machine.kind()), "{machine:?}");
        refused(&format!("rediss://127.0.0.1:{port}?tls-ca={}", theirs.pem.display()), ErrorKind::Denied)
            .await;
        // A certificate for another address; none, or a stranger's, where one is wanted.
        refused(&url("rediss", other_port, ""), ErrorKind::Denied).await;
        refused(&url("rediss", mutual_port, ""), ErrorKind::Denied).await;
        refused(&url("rediss", mutual_port, &with(&stranger)), ErrorKind::Denied).await;
        // TLS spoken to a plain port, and the other way round.
        refused(&url("rediss", plain.port, ""), ErrorKind::Unavailable).await;
        refused(&format!("redis://127.0.0.1:{port}"), ErrorKind::Unavailable).await;
    });
}
