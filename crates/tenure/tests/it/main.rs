//! The library seen from outside: auto traits, what must not compile, and the rules of the house.

mod compile_fail;
mod send_sync;
mod tidy;
