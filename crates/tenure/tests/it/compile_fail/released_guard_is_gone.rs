fn main() -> tenure::Result<()> {
    let guard = tenure::Locks::memory().mutex("a")?.blocking_lock()?;
    guard.blocking_release()?;
    println!("{}", guard.token());
    Ok(())
}
