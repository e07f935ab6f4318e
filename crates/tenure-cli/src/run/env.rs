//! `TENURE_HELD`: the locks that this command and its parents hold, so that nobody waits for himself.
//!
//! One line each: the store's URL without a password, a space, the namespace, a slash, the name. A URL holds no space
//! and a name no line end, so each line reads in one way.

use std::path::Path;

use tenure::Key;

/// One lock as a line of `TENURE_HELD`.
pub(super) fn line(url: &str, key: &Key) -> String {
    format!("{} {}", identity(url), key.full())
}

/// Whether a parent holds that lock.
pub(super) fn holds(held: &str, line: &str) -> bool {
    held.lines().any(|l| l == line)
}

/// The list with one more lock.
pub(super) fn with(held: &str, line: &str) -> String {
    let mut lines: Vec<&str> = held.lines().filter(|l| !l.is_empty()).collect();
    lines.push(line);
    lines.join("\n")
}

/// A directory by its one true path: `host:///tmp/x/` and a symbolic link to it are the same store.
fn identity(url: &str) -> String {
    let Some(path) = url.strip_prefix("host://").filter(|p| p.starts_with('/') && !p.contains(['%', '?']))
    else {
        return url.to_owned();
    };
    let path = Path::new(path).canonicalize().ok().and_then(|p| p.to_str().map(str::to_owned));
    match path {
        Some(path) if !path.contains(char::is_whitespace) => format!("host://{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_elsewhere_do_not_clash() {
        let key = |namespace, name| Key::new(namespace, name).expect("a key");
        let a = line("host:", &key("default", "a b"));
        let held = with(&with("", &a), &line("redis://h", &key("default", "c")));
        assert!(holds(&held, &a));
        for (url, key) in [
            ("host:///tmp", key("default", "a b")),
            ("host:", key("other", "a b")),
            ("host:", key("default", "a")),
            ("host:", key("default", "c")),
        ] {
            assert!(!holds(&held, &line(url, &key)), "{url} {key:?}");
        }
    }

    #[test]
    fn a_directory_has_one_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("a link");
        let key = Key::new("default", "x").expect("a key");
        let names = [dir.path().to_path_buf(), link, dir.path().join(".")];
        let lines: Vec<String> =
            names.iter().map(|p| line(&format!("host://{}", p.display()), &key)).collect();
        assert!(lines.iter().all(|l| *l == lines[0]), "{lines:?}");
    }
}
