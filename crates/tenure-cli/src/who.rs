//! Who this process is, as listings show it.

use tenure::Owner;

/// The longest of an owner's texts that a store takes, in bytes.
const TEXT_MAX: usize = 128;

/// This user on this host, for a process that people look for.
pub(crate) fn owner(pid: u32, program: &str) -> Owner {
    let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    let user = set("USER").or_else(|| set("LOGNAME"));
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Owner {
        user: shortened(user, TEXT_MAX),
        host: shortened(host, TEXT_MAX),
        pid,
        program: shortened(program.into(), TEXT_MAX),
    }
}

/// A text cut at `max` bytes, at a character.
pub(crate) fn shortened(mut text: String, max: usize) -> String {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
