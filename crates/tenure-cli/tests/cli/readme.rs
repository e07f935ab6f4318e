//! The README's commands, run as they stand.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Place, TENURE, text};

#[test]
fn the_commands_of_the_readme_work() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let commands: Vec<&str> = readme.lines().filter_map(|l| l.strip_prefix("$ ")).collect();
    let ours: Vec<&&str> = commands.iter().filter(|c| c.starts_with("tenure ")).collect();
    assert!(ours.len() >= 5, "only {ours:?} found: this test has gone blind");
    let place = Place::new();
    for script in ["report.sh", "charge.sh"] {
        let path = place.file(script);
        fs::write(&path, "#!/bin/sh\necho \"$TENURE_LOCK\" >> ran\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let own = Path::new(TENURE).parent().unwrap().display().to_string();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
    for line in ours {
        // What is looked at or taken away must be there.
        let looks = ["tenure ls", "tenure show", "tenure break"].iter().any(|verb| line.starts_with(verb));
        let holder = looks.then(|| place.hold("orders/42"));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line])
            .env("PATH", &path)
            .env("TENURE_URL", place.url())
            .current_dir(place.file(""));
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{line}: {} {}", output.status, text(&output.stderr));
        let said = text(&output.stdout);
        assert!(!looks || line.contains("break") || said.contains("orders/42"), "{line}: {said}");
        drop(holder);
    }
    let ran = fs::read_to_string(place.file("ran")).unwrap();
    let mut ran: Vec<&str> = ran.lines().collect();
    let slot = ran.remove(2);
    assert!(slot.starts_with("nightly/@"), "{slot}");
    assert_eq!(ran, ["nightly-report", "orders/42", "billing", "render", "account/3", "account/7"]);
}
