//! For stores that stand in front of another one: tests and the lab count, delay, lose and falsify what passes.

/// The named verbs of a [`Backend`](crate::backend::Backend), handed on as they are to the store in a field of `self`:
/// `pass_on!(inner: capabilities, domain, part, attempt);` inside the implementation. What is not named has to be written, so a
/// new verb is never handed on by oversight.
#[macro_export]
macro_rules! pass_on {
    (@ $to:tt capabilities) => {
        fn capabilities(&self) -> $crate::Capabilities {
            self.$to.capabilities()
        }
    };
    (@ $to:tt domain) => {
        fn domain(&self) -> $crate::backend::BoxFuture<'_, $crate::Result<$crate::Domain>> {
            self.$to.domain()
        }
    };
    (@ $to:tt part) => {
        fn part(&self, key: &$crate::Key) -> $crate::backend::Part {
            self.$to.part(key)
        }
    };
    (@ $to:tt attempt) => {
        fn attempt<'a>(
            &'a self,
            claims: &'a [$crate::backend::Claim],
            call: $crate::backend::Call,
        ) -> $crate::backend::BoxFuture<'a, Vec<$crate::Result<$crate::backend::Answer>>> {
            self.$to.attempt(claims, call)
        }
    };
    (@ $to:tt renew) => {
        fn renew<'a>(
            &'a self,
            claims: &'a [$crate::backend::Claim],
            call: $crate::backend::Call,
        ) -> $crate::backend::BoxFuture<'a, Vec<$crate::Result<$crate::backend::Answer>>> {
            self.$to.renew(claims, call)
        }
    };
    (@ $to:tt release) => {
        fn release<'a>(
            &'a self,
            claim: &'a $crate::backend::Claim,
            leave: $crate::backend::Leave,
            call: $crate::backend::Call,
        ) -> $crate::backend::BoxFuture<'a, $crate::Result<$crate::backend::Released>> {
            self.$to.release(claim, leave, call)
        }
    };
    (@ $to:tt transfer) => {
        fn transfer<'a>(
            &'a self,
            from: &'a $crate::backend::Claim,
            to: &'a $crate::backend::Claim,
            call: $crate::backend::Call,
        ) -> $crate::backend::BoxFuture<'a, $crate::Result<$crate::backend::Answer>> {
            self.$to.transfer(from, to, call)
        }
    };
    (@ $to:tt evict) => {
        fn evict<'a>(
            &'a self,
            key: &'a $crate::Key,
            token: Option<$crate::Token>,
            why: &'a str,
            call: $crate::backend::Call,
        ) -> $crate::backend::BoxFuture<'a, $crate::Result<$crate::backend::Released>> {
            self.$to.evict(key, token, why, call)
        }
    };
    (@ $to:tt inspect) => {
        fn inspect<'a>(
            &'a self,
            query: &'a $crate::backend::Query,
            call: $crate::backend::Call,
        ) -> $crate::backend::BoxFuture<'a, $crate::Result<$crate::backend::Page>> {
            self.$to.inspect(query, call)
        }
    };
    (@ $to:tt watch) => {
        fn watch(&self, what: &$crate::backend::Watched) {
            self.$to.watch(what);
        }
    };
    (@ $to:tt close) => {
        fn close(&self) -> $crate::backend::BoxFuture<'_, ()> {
            self.$to.close()
        }
    };
    ($to:tt: $($verb:ident),+) => {
        $($crate::pass_on!(@ $to $verb);)+
    };
}
