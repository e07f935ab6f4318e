//! A real HTTP server behind the layer, and a client over a plain socket.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use libtest_mimic::Trial;
use tenure::fence::http::FenceLayer;
use tenure::fence::{Reason, Stamp};
use tower_layer::Layer;
use tower_service::Service;

use crate::programs::Dir;
use crate::trials::{self, Refused, Resource, Side, Slow, stamp};
use crate::{Suite, trial};

pub(crate) const SUITE: Suite = Suite { name: "http", needs: &[], trials: all };

fn all() -> Vec<Trial> {
    let mut all = trials::of("http", || Box::new(Site::new()));
    let own: [(&str, fn()); 5] = [
        ("s3_all_spellings_of_a_path_have_one_fence", spellings),
        ("s3_a_request_under_way_ends_before_a_higher_token_comes_in", under_way),
        ("a_request_without_a_good_stamp_does_not_come_in", no_stamp),
        ("a_server_that_starts_again_remembers", again),
        ("a_fence_that_cannot_be_asked_lets_nobody_in", unavailable),
    ];
    all.extend(own.into_iter().map(|(name, body)| trial(format!("http::{name}"), body)));
    all
}

/// What the service knows.
#[derive(Default)]
struct Stock {
    n: i64,
    /// Told when a slow request is inside.
    inside: Option<mpsc::Sender<()>>,
}

#[derive(Clone)]
struct Shop(Arc<Mutex<Stock>>, Arc<tokio::sync::Notify>);

impl Shop {
    fn stock(&self) -> std::sync::MutexGuard<'_, Stock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Request<Incoming>> for Shop {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let shop = self.clone();
        Box::pin(async move {
            let method = request.method().clone();
            let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            if method == Method::POST {
                let told = shop.stock().inside.take();
                told.into_iter().for_each(|told| told.send(()).expect("heard"));
                shop.1.notified().await;
                shop.stock().n += 1;
            } else if method == Method::PUT {
                let n = String::from_utf8_lossy(&body).parse().expect("a number");
                shop.stock().n = n;
            }
            let n = shop.stock().n;
            Ok(Response::new(Full::from(n.to_string())))
        })
    }
}

/// A server on a free port.
struct Site {
    dir: Arc<Dir>,
    shop: Shop,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new() -> Site {
        Site::with(Arc::new(Dir::new()))
    }

    fn with(dir: Arc<Dir>) -> Site {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let shop = Shop(Arc::new(Mutex::new(Stock { n: 100, inside: None })), Arc::default());
        let service = FenceLayer::new(&dir.0).layer(shop.clone());
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a socket");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let service = TowerToHyperService::new(service.clone());
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Site { dir, shop, address, _runtime: runtime }
    }

    fn client(&self) -> Client {
        Client(self.address)
    }

    fn layer(&self) -> FenceLayer {
        FenceLayer::new(&self.dir.0)
    }
}

impl Resource for Site {
    fn side(&self) -> Box<dyn Side> {
        Box::new(self.client())
    }

    fn slow(&self) -> Option<Box<dyn Slow>> {
        None // see `under_way`
    }

    fn raise(&self, to: &Stamp) {
        let fence = self.layer().fence("/stock/7").expect("a short name");
        fence.raise(Some(to.domain()), Some(to.token())).expect("raised");
    }

    fn reset(&self, to: &Stamp) {
        self.layer().fence("/stock/7").expect("a short name").reset(to).expect("reset");
    }

    fn kept(&self) -> Option<Stamp> {
        self.layer().fence("/stock/7").expect("a short name").read().expect("whole")
    }
}

#[derive(Clone, Copy)]
struct Client(SocketAddr);

impl Client {
    /// Status and body.
    fn ask(self, method: &str, headers: &str, body: &str) -> (StatusCode, String) {
        self.ask_at("/stock/7", method, headers, body)
    }

    fn ask_at(self, path: &str, method: &str, headers: &str, body: &str) -> (StatusCode, String) {
        let mut stream = TcpStream::connect(self.0).expect("connects");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: stock\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    fn with(self, method: &str, stamp: &Stamp, body: &str) -> Result<i64, Refused> {
        let mut map = hyper::HeaderMap::new();
        tenure::fence::http::set(&mut map, stamp);
        let headers: String = map
            .iter()
            .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text")))
            .collect();
        let (status, text) = self.ask(method, &headers, body);
        match status {
            StatusCode::OK => Ok(text.parse().expect("a number")),
            StatusCode::PRECONDITION_FAILED => {
                let reason = if text.contains("stale") { Reason::Stale } else { Reason::OtherDomain };
                Err(Refused { reason, text })
            }
            _ => panic!("{status}: {text}"),
        }
    }
}

impl Side for Client {
    fn read(&mut self, stamp: &Stamp) -> Result<i64, Refused> {
        self.with("GET", stamp, "")
    }

    fn write(&mut self, stamp: &Stamp, value: i64) -> Result<(), Refused> {
        self.with("PUT", stamp, &value.to_string()).map(drop)
    }
}

fn under_way() {
    let site = Site::new();
    let (send, inside) = mpsc::channel();
    site.shop.stock().inside = Some(send);
    let client = site.client();
    let asleep = thread::spawn(move || client.with("POST", &stamp("redis:a", 7), ""));
    inside.recv().expect("it is inside");
    let (send, came) = mpsc::channel();
    let next = thread::spawn(move || {
        let found = client.with("GET", &stamp("redis:a", 8), "");
        let _ = send.send(());
        found
    });
    let _ = came.recv_timeout(site.grace());
    site.shop.1.notify_one();
    assert_eq!(asleep.join().expect("no panic"), Ok(101));
    assert_eq!(next.join().expect("no panic"), Ok(101), "an effect came after the next had read");
}

fn no_stamp() {
    let site = Site::new();
    let ask = |headers: &str| site.client().ask("PUT", headers, "5").0;
    assert_eq!(ask(""), StatusCode::PRECONDITION_REQUIRED);
    assert_eq!(ask("Tenure-Token: 7\r\n"), StatusCode::PRECONDITION_REQUIRED);
    assert_eq!(ask("Tenure-Domain: redis:a\r\n"), StatusCode::PRECONDITION_REQUIRED);
    for token in ["", "seven", "0", "-7", "+7", "008", "1e3", "99999999999999999999", "7\r\nTenure-Token: 8"]
    {
        let status = ask(&format!("Tenure-Token: {token}\r\nTenure-Domain: redis:a\r\n"));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{token:?}");
    }
    let long = "d".repeat(201);
    for domain in ["", "a b", long.as_str()] {
        let status = ask(&format!("Tenure-Token: 7\r\nTenure-Domain: {domain}\r\n"));
        assert_eq!(status, StatusCode::BAD_REQUEST, "{domain:?}");
    }
    assert_eq!(site.shop.stock().n, 100, "nothing came in");
    assert_eq!(site.kept(), None);
    assert_eq!(ask("TENURE-TOKEN: 7\r\ntenure-domain: redis:a\r\n"), StatusCode::OK);
}

/// A stale token gets in by none of them; a path that is broken gets in nowhere.
fn spellings() {
    let site = Site::new();
    let ask = |path: &str, token: u32| {
        let headers = format!("Tenure-Token: {token}\r\nTenure-Domain: redis:a\r\n");
        site.client().ask_at(path, "PUT", &headers, "5").0
    };
    assert_eq!(ask("/stock/%C3%A4~", 9), StatusCode::OK);
    for path in [
        "/stock/%C3%A4~",
        "/stock/%c3%a4~",
        "/stock/%C3%A4%7E",
        "/stock/%C3%A4%7e",
        "/%73tock/%C3%A4~",
        "//stock/%C3%A4~",
        "/./stock/%C3%A4~",
        "/stock//%C3%A4~",
        "/stock/%C3%A4~/",
        "/stock/x/../%C3%A4~",
        "/stock/x/%2e%2e/%C3%A4~",
        "/stock%2F%C3%A4~",
        "/stock/%C3%A4~?",
        "/stock/%C3%A4~?x=1",
        "http://elsewhere/stock/%C3%A4~",
    ] {
        assert_eq!(ask(path, 8), StatusCode::PRECONDITION_FAILED, "{path}");
        assert_eq!(ask(path, 9), StatusCode::OK, "{path}");
    }
    for path in ["/stock/a%CC%88~", "/Stock/%C3%A4~", "/stock/%C3%84~", "/stock/%C3%A4", "/"] {
        assert_eq!(ask(path, 8), StatusCode::OK, "{path} is another resource");
    }
    for path in ["/stock/%C3%A4~%", "/stock/%zz", "/%4"] {
        assert_eq!(ask(path, 99), StatusCode::BAD_REQUEST, "{path}");
    }
    let fence = site.layer().fence("//stock/%c3%a4%7e").expect("a path");
    assert_eq!(
        fence.read().expect("whole"),
        Some(stamp("redis:a", 9)),
        "an operator finds it by any spelling"
    );
}

fn again() {
    let dir = Arc::new(Dir::new());
    let site = Site::with(dir.clone());
    assert_eq!(site.client().with("GET", &stamp("redis:a", 8), ""), Ok(100));
    drop(site);
    let site = Site::with(dir);
    let late = site.client().with("PUT", &stamp("redis:a", 7), "101").expect_err("stale");
    assert_eq!(late.reason, Reason::Stale);
    assert_eq!(site.shop.stock().n, 100);
}

fn unavailable() {
    let site = Site::new();
    std::fs::write(site.dir.file("%2Fstock%2F7.fence"), "damaged").expect("written");
    let (status, text) = site.client().ask("PUT", "Tenure-Token: 7\r\nTenure-Domain: redis:a\r\n", "5");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    assert!(!text.contains(&site.dir.0.display().to_string()), "{text}");
    assert_eq!(site.shop.stock().n, 100);
}
