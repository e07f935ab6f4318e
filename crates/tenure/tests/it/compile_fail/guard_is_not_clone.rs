fn main() -> tenure::Result<()> {
    let guard = tenure::Locks::memory().mutex("a")?.blocking_lock()?;
    let _second = guard.clone();
    Ok(())
}
