//! Pure decisions. Nothing in here is async, reads a clock, does I/O or draws a random number: time and randomness
//! are arguments.

pub mod backoff;
pub mod calendar;
pub mod cas;
pub mod duration;
pub mod lease;
pub mod line;
pub mod moment;
pub mod previous;
pub mod queue;
pub mod quorum;
