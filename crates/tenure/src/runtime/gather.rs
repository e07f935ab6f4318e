//! Requests that are asked for by one poll of many futures may leave together.
//!
//! Whoever polls many at once begins a [`Gathering`] around it. A backend that could send what it is asked for at once
//! sees that there is one, keeps it, and sends all it has kept when the gathering ends, still within that poll.

use std::cell::RefCell;

/// What is done at the end of a gathering.
type AtEnd = Box<dyn FnOnce()>;

#[derive(Default)]
struct Open {
    depth: u32,
    at_end: Vec<AtEnd>,
}

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

/// While it lives, this thread is about to ask for more.
#[derive(Debug)]
pub(crate) struct Gathering(());

impl Gathering {
    /// Begins one; one within another is part of it.
    pub(crate) fn begin() -> Gathering {
        OPEN.with_borrow_mut(|open| open.depth += 1);
        Gathering(())
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        // Taken first: what is done then may ask for something itself.
        let at_end = OPEN.with_borrow_mut(|open| {
            open.depth -= 1;
            if open.depth == 0 { std::mem::take(&mut open.at_end) } else { Vec::new() }
        });
        at_end.into_iter().for_each(|act| act());
    }
}

/// Whether this thread has one.
#[cfg(any(feature = "redis", test))] // only its link gathers
pub(crate) fn is_open() -> bool {
    OPEN.with_borrow(|open| open.depth > 0)
}

/// Does something at the end of this thread's gathering. `false`: there is none, and it is not done.
#[cfg(any(feature = "redis", test))] // only its link gathers
pub(crate) fn at_end(act: impl FnOnce() + 'static) -> bool {
    OPEN.with_borrow_mut(|open| {
        let gathers = open.depth > 0;
        if gathers {
            open.at_end.push(Box::new(act));
        }
        gathers
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn the_outermost_end_counts() {
        let done = Rc::new(Cell::new(0));
        let more = || {
            let done = done.clone();
            at_end(move || done.set(done.get() + 1))
        };
        assert!(!more(), "nobody gathers");
        let outer = Gathering::begin();
        assert!(more());
        drop(Gathering::begin());
        assert_eq!(done.get(), 0, "it goes on");
        assert!(more());
        drop(outer);
        assert_eq!(done.get(), 2);
        assert!(!more(), "it is over");
    }

    #[test]
    fn a_panic_ends_it_too() {
        let done = Rc::new(Cell::new(false));
        let told = done.clone();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _gathering = Gathering::begin();
            assert!(at_end(move || told.set(true)));
            std::panic::resume_unwind(Box::new("a trial"));
        }));
        assert!(panicked.is_err() && done.get());
        assert!(!at_end(|| ()), "it is over");
    }
}
