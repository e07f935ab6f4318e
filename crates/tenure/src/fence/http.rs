//! Fences in front of HTTP services: a layer for `tower`, and the headers that it reads. Needs the cargo feature `tower`.
//!
//! A client sends the token of its grant and the domain with every request, including reads ([`set`]). The layer admits a
//! request only if its token is not lower than the highest that the resource has seen, and keeps higher tokens out until
//! the response is made. Otherwise it answers `412 Precondition Failed` with a reason.
//!
//! # Which requests share a fence
//! By default, requests for the same path, whatever the method, the host and the query. All spellings of a path are one:
//! - percent-encoded bytes count as the bytes that they stand for: `/~x` is `/%7Ex`, `/%C3%A4` is `/%c3%a4` (RFC 3986, 6.2.2);
//! - `.` and `..` are resolved: `/./x` is `/x`;
//! - empty segments and encoded slashes do not count: `//x`, `/x/` and `/%2Fx` are `/x`.
//!
//! Case and Unicode composition matter. A path with a broken percent-encoding is refused. In doubt, paths share a fence:
//! that can refuse a holder who is right, but two fences of one resource would let a stale token in. If your service sees
//! it differently, or if a query or a host names another resource, name resources yourself ([`FenceLayer::resource`]).
//!
//! ```
//! use tenure::fence::http::{FenceLayer, set};
//! use tenure::fence::Stamp;
//! use tower_layer::Layer;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let stamp = Stamp::new("redis:cache:6379/0".parse()?, "5".parse()?);
//! # #[derive(Clone)] struct Stock;
//! # let stock = Stock;
//! // The server: one fence for each path. The directory must outlive restarts, like the resources.
//! let service = FenceLayer::new("/var/lib/stock/fences").layer(stock);
//! // A client that holds the lock:
//! let mut request = http::Request::put("http://stock.internal/stock/7").body("41")?;
//! set(request.headers_mut(), &stamp);
//! # let _ = service;
//! # Ok(()) }
//! ```

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use tower_layer::Layer;
use tower_service::Service;

use super::path::canonical;
use super::{CheckError, Entry, FenceFile, Stamp};

/// The header that carries the token, in digits.
pub const TOKEN: HeaderName = HeaderName::from_static("tenure-token");
/// The header that carries the token's domain.
pub const DOMAIN: HeaderName = HeaderName::from_static("tenure-domain");

/// The longest name of a resource, in bytes of its file name.
const NAME_MAX: usize = 240;

/// Puts the stamp into the headers of a request.
pub fn set(headers: &mut HeaderMap, stamp: &Stamp) {
    headers.insert(TOKEN, HeaderValue::from(stamp.token().get()));
    // A domain consists of characters that a header may have.
    if let Ok(domain) = HeaderValue::from_str(stamp.domain().as_str()) {
        headers.insert(DOMAIN, domain);
    }
}

/// The stamp in the headers of a request.
///
/// # Errors
/// The status to answer with, and why: 428 if there is none, 400 if it is malformed.
pub fn stamp(headers: &HeaderMap) -> Result<Stamp, (StatusCode, String)> {
    let one = |name: HeaderName| {
        let mut values = headers.get_all(&name).iter();
        let missing =
            || (StatusCode::PRECONDITION_REQUIRED, format!("this resource requires the header {name}"));
        let value = values.next().ok_or_else(missing)?;
        let bad =
            || (StatusCode::BAD_REQUEST, format!("the header {name} must have exactly one value, in ASCII"));
        if values.next().is_some() {
            return Err(bad());
        }
        value.to_str().map_err(|_| bad())
    };
    let bad = |error: crate::Error| (StatusCode::BAD_REQUEST, error.to_string());
    let token = one(TOKEN)?.parse().map_err(bad)?;
    let domain = one(DOMAIN)?.parse().map_err(bad)?;
    Ok(Stamp::new(domain, token))
}

/// Names the resource of a request. None: it is the path.
type Name = Option<Arc<dyn Fn(&Uri) -> String + Send + Sync>>;

/// Puts a fence in front of a service: one for each resource, in files of a directory.
///
/// Answers that the layer gives instead of the service:
/// - `428 Precondition Required`: the request has no `Tenure-Token` or no `Tenure-Domain`;
/// - `400 Bad Request`: one of them is malformed, or the resource's name is too long or has a broken percent-encoding;
/// - `412 Precondition Failed`: the token is stale or of another domain; the body says which, and which token was seen;
/// - `503 Service Unavailable`: the fence cannot be read or written, or others stay inside for too long.
///
/// Put the layer behind authentication and routing: each request that gets here creates a file for the resource that it
/// names, and can raise its fence. The service's body must be `From<String>`. Needs a tokio runtime.
#[derive(Clone)]
pub struct FenceLayer {
    dir: PathBuf,
    name: Name,
}

impl fmt::Debug for FenceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FenceLayer").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl FenceLayer {
    /// Fences in files of this directory, which must exist. Requests for the same path share a fence.
    pub fn new(dir: impl Into<PathBuf>) -> FenceLayer {
        FenceLayer { dir: dir.into(), name: None }
    }

    /// Names the resource of a request if that is not its path. Requests with the same name, byte for byte, share a fence.
    ///
    /// The name must be the same for all spellings of the URL that the service takes for the same resource. So derive it
    /// from values that the router has decoded, not from the raw path.
    #[must_use]
    pub fn resource(mut self, name: impl Fn(&Uri) -> String + Send + Sync + 'static) -> FenceLayer {
        self.name = Some(Arc::new(name));
        self
    }

    /// The fence of a resource, to raise or reset it: by its path, or by its name if the layer [names](FenceLayer::resource)
    /// resources. `None`: the name is too long, or the path has a broken percent-encoding.
    #[must_use]
    pub fn fence(&self, resource: &str) -> Option<FenceFile> {
        match &self.name {
            Some(_) => self.file(resource),
            None => self.file(&canonical(resource)?),
        }
    }

    fn file(&self, resource: &str) -> Option<FenceFile> {
        let mut name = String::new();
        for byte in resource.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
                name.push(char::from(byte));
            } else {
                name += &format!("%{byte:02X}");
            }
        }
        (name.len() <= NAME_MAX).then(|| FenceFile::new(self.dir.join(format!("{name}.fence"))))
    }

    fn asked<B>(&self, request: &Request<B>) -> Result<(FenceFile, Stamp), (StatusCode, String)> {
        let stamp = stamp(request.headers())?;
        let bad = || {
            let what = "the resource's name is too long, or its percent-encoding is broken";
            (StatusCode::BAD_REQUEST, what.to_owned())
        };
        let uri = request.uri();
        let fence = match &self.name {
            Some(name) => self.file(&name(uri)),
            None => self.fence(uri.path()),
        };
        Ok((fence.ok_or_else(bad)?, stamp))
    }
}

async fn enter(fence: FenceFile, stamp: Stamp) -> Result<Entry, (StatusCode, String)> {
    match tokio::task::spawn_blocking(move || fence.enter(&stamp)).await {
        Ok(Ok(entry)) => Ok(entry),
        Ok(Err(CheckError::Refused(why))) => Err((StatusCode::PRECONDITION_FAILED, why.to_string())),
        Ok(Err(CheckError::Failed(error))) => {
            // The details contain paths of this machine, which are not for clients.
            tracing::warn!(%error, "a fence cannot be checked");
            Err((StatusCode::SERVICE_UNAVAILABLE, "the fence of this resource cannot be checked".to_owned()))
        }
        Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down".to_owned())),
    }
}

impl<S> Layer<S> for FenceLayer {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { layer: self.clone(), inner }
    }
}

/// A service behind a fence; made by [`FenceLayer`].
#[derive(Clone, Debug)]
pub struct Fenced<S> {
    layer: FenceLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Fenced<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String> + Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The instance that is ready gets the call; its clone stays for the next one.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let asked = self.layer.asked(&request);
        Box::pin(async move {
            let entered = match asked {
                Ok((fence, stamp)) => enter(fence, stamp).await,
                Err(answer) => Err(answer),
            };
            match entered {
                Ok(entry) => {
                    let response = inner.call(request).await;
                    drop(entry);
                    response
                }
                Err((status, why)) => {
                    let mut response = Response::new(R::from(why + "\n"));
                    *response.status_mut() = status;
                    let text = HeaderValue::from_static("text/plain; charset=utf-8");
                    response.headers_mut().insert(CONTENT_TYPE, text);
                    Ok(response)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(headers: &[(&'static str, &'static str)]) -> Result<Stamp, StatusCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        stamp(&map).map_err(|(status, _)| status)
    }

    #[test]
    fn headers_are_read_as_they_are_set() {
        let shown =
            Stamp::new("redis:[::1]:6379/0".parse().expect("a domain"), "7".parse().expect("a token"));
        let mut headers = HeaderMap::new();
        set(&mut headers, &shown);
        set(&mut headers, &shown);
        assert_eq!(stamp(&headers), Ok(shown));
    }

    #[test]
    fn anything_else_is_refused() {
        let domain = ("tenure-domain", "redis:a");
        assert_eq!(judged(&[]), Err(StatusCode::PRECONDITION_REQUIRED));
        assert_eq!(judged(&[domain]), Err(StatusCode::PRECONDITION_REQUIRED));
        assert_eq!(judged(&[("tenure-token", "7")]), Err(StatusCode::PRECONDITION_REQUIRED));
        for token in ["", "0", "-1", "+7", "007", "7 ", "0x7", "7.0", "9223372036854775808", "\u{7f}"] {
            let token =
                HeaderValue::from_bytes(token.as_bytes()).unwrap_or(HeaderValue::from_static("seven"));
            let mut map = HeaderMap::new();
            map.insert(TOKEN, token);
            map.insert(DOMAIN, HeaderValue::from_static("redis:a"));
            assert_eq!(stamp(&map).map_err(|(s, _)| s), Err(StatusCode::BAD_REQUEST));
        }
        assert_eq!(
            judged(&[("tenure-token", "7"), ("tenure-token", "7"), domain]),
            Err(StatusCode::BAD_REQUEST)
        );
        assert_eq!(judged(&[("tenure-token", "7"), ("tenure-domain", "a b")]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn resources_never_share_a_file_and_never_leave_the_directory() {
        let layer = FenceLayer::new("/fences").resource(|uri| uri.path().to_owned());
        let mut files: Vec<String> =
            ["/a", "/A", "/a/", "/a%2F", "/../etc/passwd", ".", "..", "", "/ä", "a\0"]
                .iter()
                .map(|name| format!("{:?}", layer.fence(name).expect("short")))
                .collect();
        assert!(files.iter().all(|f| !f.contains("..") && f.contains("/fences/")), "{files:?}");
        files.sort();
        files.dedup();
        assert_eq!(files.len(), 10);
        assert!(layer.fence(&"x".repeat(NAME_MAX + 1)).is_none());
    }
}
