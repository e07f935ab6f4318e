//! Programs that use Tenure with other crates: an HTTP service with axum (`web`), a fence in a transaction with sqlx
//! (`postgres`), and the same with rusqlite (`sqlite`).

pub mod postgres;
pub mod sqlite;
pub mod web;
