//! The verbs.

use super::{Arena, Ask, Event, Found, Now, Place, Refusal, Trace};

/// Many lines in one arena.
#[derive(Debug)]
pub struct Lines<A> {
    arena: A,
    events: Vec<Event>,
}
