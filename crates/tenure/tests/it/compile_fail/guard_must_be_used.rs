#![deny(unused_must_use)]

fn main() -> tenure::Result<()> {
    tenure::Locks::memory().mutex("a")?.blocking_lock()?;
    Ok(())
}
