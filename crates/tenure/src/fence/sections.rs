//! Files of several statements, each below a line that names it.

/// What a line begins with that names what follows.
pub(super) const NAME: &str = "--- ";

/// The parts of this name.
pub(super) fn named(file: &'static str, name: &'static str) -> impl Iterator<Item = &'static str> {
    let parts = file.split(NAME).skip(1);
    parts.filter_map(move |part| part.strip_prefix(name)?.strip_prefix('\n')).map(str::trim_end)
}

/// The only part of this name.
pub(super) fn one(file: &'static str, name: &'static str) -> &'static str {
    named(file, name).next().unwrap_or_default()
}
