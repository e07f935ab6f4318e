//! `cargo run --manifest-path integrations/Cargo.toml --example web`, then `curl -X POST 127.0.0.1:8080/orders/42/pay`. The
//! store is the one of `TENURE_URL`.

use std::time::Duration;

use tenure::Builder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The store may start at the same time as we.
    let locks = Builder::from_env()?.retry_for(Duration::from_secs(30)).connect().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    let service = integrations::web::service(locks.clone());
    let end = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, service).with_graceful_shutdown(end).await?;
    locks.close().await?; // nothing is left in the store
    Ok(())
}
