//! A proxy before a server that changes the scripts which clients load: the client and the server are the real ones, and
//! what runs is a few lines away from what is shipped.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::StoreKind;
use crate::failure::{Doing, Outcome};

/// What to replace in a script, and by what.
pub(crate) type Patch = (&'static str, &'static str);

/// The proxy. Lives as long as the process.
#[derive(Debug)]
pub(crate) struct Patched {
    port: u16,
    #[cfg_attr(not(feature = "proofs"), allow(dead_code))] // for broken variants
    applied: Arc<Vec<AtomicUsize>>,
}

impl Patched {
    /// Puts it before the server of this kind at this port.
    pub(crate) fn before(
        kind: &'static dyn StoreKind,
        server: u16,
        patches: &'static [Patch],
    ) -> Outcome<Patched> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).doing(|| "start a proxy".into())?;
        let port = listener.local_addr().doing(|| "start a proxy".into())?.port();
        let applied: Arc<Vec<AtomicUsize>> = Arc::new(patches.iter().map(|_| AtomicUsize::new(0)).collect());
        let counts = applied.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down is seen as one that hangs up.
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let counts = counts.clone();
                thread::spawn(move || join(kind, &client, &upstream, patches, &counts));
            }
        });
        Ok(Patched { port, applied })
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many patches found no place in any script.
    #[cfg_attr(not(feature = "proofs"), allow(dead_code))] // for broken variants
    pub(crate) fn idle(&self) -> usize {
        self.applied.iter().filter(|n| n.load(Ordering::SeqCst) == 0).count()
    }
}

fn join(
    kind: &dyn StoreKind,
    client: &TcpStream,
    server: &TcpStream,
    patches: &[Patch],
    counts: &[AtomicUsize],
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut change = |text: &str| {
        let mut text = text.to_owned();
        for ((old, new), count) in patches.iter().zip(counts) {
            count.fetch_add(text.matches(old).count(), Ordering::SeqCst);
            text = text.replace(old, new);
        }
        text
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*server, &mut &*client);
            let _ = client.shutdown(Shutdown::Both);
        });
        let mut requests = BufReader::new(client);
        while let Ok(Some(request)) = kind.request(&mut requests, &mut change) {
            if (&*server).write_all(&request).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    });
}
