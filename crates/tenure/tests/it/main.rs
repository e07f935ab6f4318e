//! The library seen from outside: the API, auto traits, what must not compile, and the rules of the house.

mod api;
mod closing;
mod compile_fail;
mod compose;
mod faces;
mod send_sync;
mod tidy;
mod watching;
