//! What must not compile, with the message that a user would see.

#[test]
fn what_must_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/it/compile_fail/*.rs");
}
