//! An HTTP service with axum: one client of the store in its state, a lock in each request, and a status for each error.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use tenure::{ErrorKind, Locks};

/// How long a request waits in line: less than its client does.
const PATIENCE: Duration = Duration::from_secs(2);

/// The service. Connect once, at start; clones share the connections.
pub fn service(locks: Locks) -> Router {
    Router::new().route("/orders/{id}/pay", post(pay)).with_state(locks)
}

/// If the client goes away, axum drops this future, and with it the guard: the lock is released in the background.
async fn pay(State(locks): State<Locks>, Path(id): Path<u64>) -> Result<Response, Refusal> {
    let order = locks.mutex(format!("orders/{id}"))?;
    let Some(guard) = order.try_lock_for(PATIENCE).await? else { return Err(Refusal::Busy) };
    // Dropped as soon as the lock is lost. Show the token to what the work changes.
    let receipt = guard.while_held(charge(id, guard.token())).await.map_err(tenure::Error::from)?;
    guard.release().await?;
    Ok(Json(json!({ "order": id, "receipt": receipt })).into_response())
}

async fn charge(order: u64, token: tenure::Token) -> String {
    format!("{order}-{token}")
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Refusal {
    /// Another request has the order.
    Busy,
    /// The lock or its store.
    Lock(tenure::Error),
}

impl From<tenure::Error> for Refusal {
    fn from(error: tenure::Error) -> Refusal {
        Refusal::Lock(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, what) = match &self {
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy".to_owned()),
            Refusal::Lock(error) => (status(error), error.what().to_owned()),
        };
        let mut response = (status, Json(json!({ "error": what }))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// The status of an error; the manual's page on errors says why.
#[must_use]
pub fn status(error: &tenure::Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Uncertain => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Lost => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(locks: &Locks, id: u64) -> (StatusCode, String) {
        let request = Request::post(format!("/orders/{id}/pay")).body(Body::empty()).expect("a request");
        let answer = service(locks.clone()).oneshot(request).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn an_order_is_paid_and_a_busy_one_is_not() {
        let locks = Locks::memory();
        assert_eq!(ask(&locks, 7).await.0, StatusCode::OK);
        let guard = locks.mutex("orders/8").expect("a name").lock().await.expect("free");
        let (status, body) = ask(&locks, 8).await;
        assert_eq!((status, body.contains("busy")), (StatusCode::SERVICE_UNAVAILABLE, true), "{body}");
        guard.release().await.expect("ours");
        assert_eq!(ask(&locks, 8).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_leaves_no_lock() {
        let locks = Locks::memory();
        let guard = locks.mutex("orders/9").expect("a name").lock().await.expect("free");
        let waiting = tokio::time::timeout(Duration::from_millis(50), ask(&locks, 9));
        assert!(waiting.await.is_err(), "it waits in line");
        guard.release().await.expect("ours");
        let order = locks.mutex("orders/9").expect("a name");
        assert!(order.try_lock_for(Duration::from_secs(60)).await.expect("asks").is_some());
    }

    #[test]
    fn each_error_has_a_status() {
        let bad = Locks::blocking_connect("hots:").expect_err("no such scheme");
        assert_eq!(status(&bad), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(&tenure::Error::unavailable("away", "wait")), StatusCode::SERVICE_UNAVAILABLE);
    }
}
