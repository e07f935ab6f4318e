use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Fault, Plan, Proxy, Way};

/// A server that answers every byte with the next one.
fn server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while let Ok(1) = (&stream).read(&mut byte) {
                    if (&stream).write_all(&[byte[0].wrapping_add(1)]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn client(proxy: &Proxy) -> TcpStream {
    let made = proxy.made();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    soon(|| proxy.made() > made);
    stream
}

fn soon(so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < end, "it never came to that");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The answer, as far as there is one before the connection ends.
fn ask(mut stream: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    if stream.write_all(bytes).is_ok() {
        for _ in bytes {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => answer.push(byte[0]),
                _ => break,
            }
        }
    }
    answer
}

fn is_over(stream: &TcpStream) -> bool {
    ask(stream, b"?").is_empty()
}

/// Nothing comes for a while.
fn is_silent(mut stream: &TcpStream, request: &[u8]) -> bool {
    stream.write_all(request).expect("sent");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let silent = stream.read(&mut [0]).is_err();
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    silent
}

#[test]
fn what_is_lost_is_never_told_and_its_connection_ends_with_the_loss() {
    for way in Way::BOTH {
        let proxy = Proxy::to(server()).expect("a port");
        let (hit, spared) = (client(&proxy), client(&proxy));
        assert_eq!((ask(&hit, b"abc"), ask(&spared, b"a")), (b"bcd".to_vec(), b"b".to_vec()));
        proxy.set(|now| {
            now.half = Some(0);
            now.lose_requests = way == Way::ToServer;
            now.lose_answers = way == Way::ToClient;
        });
        assert!(is_silent(&hit, b"x"), "{way:?}");
        assert_eq!(ask(&spared, b"x"), b"y", "{way:?}: the other half");
        // A lost answer belongs to a request that arrived.
        let arrived = if way == Way::ToServer { 3 } else { 4 };
        soon(|| proxy.passed(0, Way::ToServer) == arrived);
        proxy.set(|now| *now = super::Conditions::default());
        assert!(is_over(&hit), "{way:?}: what is missing cannot be made up for");
        assert_eq!(ask(&spared, b"x"), b"y", "{way:?}: nothing of it was lost");
        soon(|| proxy.open() == 1);
    }
}

#[test]
fn a_planned_fault_strikes_at_its_byte() {
    for (fault, answer) in
        [(Fault::Cut, &b"bc"[..]), (Fault::Instead(b"!!".to_vec()), b"bc!!"), (Fault::Lose, b"bc")]
    {
        let proxy = Proxy::to(server()).expect("a port");
        let (stream, other) = (client(&proxy), client(&proxy));
        proxy.plan(Plan { connection: 0, way: Way::ToClient, after: 2, fault: fault.clone() });
        if matches!(fault, Fault::Lose) {
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
        }
        assert_eq!(ask(&stream, b"abcd"), answer, "{fault:?}");
        assert!(proxy.struck(), "{fault:?}");
        assert_eq!(ask(&other, b"abcd"), b"bcde", "{fault:?}: it strikes once");
    }
}

#[test]
fn connections_are_reset_by_half_and_refused() {
    let proxy = Proxy::to(server()).expect("a port");
    let (even, odd) = (client(&proxy), client(&proxy));
    proxy.reset(Some(1));
    assert!(is_over(&odd) && ask(&even, b"a") == b"b");
    proxy.refuse_more();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("connects");
    assert!(is_over(&refused) && ask(&even, b"a") == b"b");
    proxy.refuse();
    assert!(is_over(&even));
    proxy.accept();
    assert_eq!((ask(&client(&proxy), b"a"), proxy.made()), (b"b".to_vec(), 3));
    let other = server();
    proxy.lead_to(other);
    assert_eq!(ask(&client(&proxy), b"a"), b"b");
}

#[test]
fn late_and_slow_and_bytewise_bytes_arrive() {
    let proxy = Proxy::to(server()).expect("a port");
    let stream = client(&proxy);
    let timed = |bytes: &[u8]| {
        let start = Instant::now();
        let next: Vec<u8> = bytes.iter().map(|byte| byte + 1).collect();
        assert_eq!(ask(&stream, bytes), next);
        start.elapsed()
    };
    let late = Duration::from_millis(50);
    proxy.set(|now| now.latency = late);
    assert!(timed(b"a") >= 2 * late, "there and back");
    proxy.set(|now| (now.latency, now.slow) = (Duration::ZERO, Some(("slow".into(), late))));
    assert!(!proxy.struck());
    timed(b"fast");
    assert!(!proxy.struck() && timed(b"slow") >= late && proxy.struck());
    proxy.set(|now| now.bytewise = true);
    timed(&[7; 1000]);
}

#[test]
fn answers_wait_for_requests() {
    let proxy = Proxy::to(server()).expect("a port");
    let (one, other) = (client(&proxy), client(&proxy));
    proxy.hold_answers(vec!["x".into(), "y".into()]);
    assert!(is_silent(&one, b"x"));
    (&other).write_all(b"y").expect("sent");
    for (mut stream, answer) in [(&one, b'y'), (&other, b'z')] {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        assert_eq!(byte[0], answer);
    }
    proxy.hold_answers(vec!["never".into()]);
    assert!(is_silent(&one, b"x"));
    drop(proxy);
    assert_eq!((&one).read(&mut [0]).unwrap_or(0), 0, "a proxy that is dropped cuts what it holds back");
}

#[test]
fn requests_are_rewritten() {
    let upper = Box::new(|from: &mut dyn std::io::BufRead| {
        let piece = from.fill_buf()?.to_ascii_uppercase();
        from.consume(piece.len());
        Ok(Some(piece))
    });
    let proxy = Proxy::rewriting(server(), upper).expect("a port");
    assert_eq!(ask(&client(&proxy), b"abc"), b"BCD");
}
