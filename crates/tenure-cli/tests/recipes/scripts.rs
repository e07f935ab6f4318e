//! A folder with the scripts of the page and the commands that they call, and what must come of it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::support::{Place, TENURE, kill, until};

type Run = fn(&Shop);

/// Name, what it needs, and the trial.
pub(crate) const ALL: &[(&str, &[&str], Run)] = &[
    ("nightly_job::together", &[], nightly_together),
    ("nightly_job::a_dead_one_is_followed", &[], nightly_dead),
    ("deploy::together", &[], deploy_together),
    ("deploy::one_that_fails_lets_go", &[], deploy_fails),
    ("deploy::one_that_is_interrupted_lets_go", &[], deploy_interrupted),
    ("deploy::a_dead_one_is_followed", &[], deploy_dead),
    ("deploy::one_that_is_too_slow_stops", &[], deploy_slow),
    ("deploy::one_that_is_too_slow_is_refused", &["jq"], deploy_fenced),
];

/// What a step does: it says so, and a slow one waits.
const STEP: &str = "#!/bin/sh\necho \"${0##*/} $1\" >> log\n[ \"$1\" != broken ] || exit 9\n\
                    if [ \"$1\" = slow ]; then echo $$ > slow; while [ ! -e go ]; do sleep 0.05; done; fi\n";
const BUILD: &str = "#!/bin/sh\necho >> builds\n\
                     if [ -e slow-build ] && [ ! -e slow ]; then echo $$ > slow; sleep 1000; fi\necho data\n";

pub(crate) struct Shop {
    place: Place,
    path: String,
}

impl Shop {
    pub(crate) fn new(url: Option<String>) -> Shop {
        let place = url.map_or_else(Place::new, Place::at);
        let bin = Path::new(TENURE).parent().unwrap().display().to_string();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
        let shop = Shop { place, path };
        for (name, text) in [("migrate", STEP), ("switch", STEP), ("build", BUILD)] {
            shop.script(name, text);
        }
        for name in ["report.sh", "deploy.sh", "deploy-fenced.sh"] {
            shop.script(name, &of_the_page(name));
        }
        shop
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.place.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    /// A script of the page, with a lease that does not take ten minutes to end.
    fn hurry(&self, name: &str) {
        let text = of_the_page(name);
        assert!(text.contains("--ttl 10m"), "{text}");
        self.script(name, &text.replace("--ttl 10m", "--ttl 3s"));
    }

    fn start(&self, line: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.place.file("")).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("TENURE_")) {
            shell.env_remove(name);
        }
        shell.env("PATH", &self.path).env("TENURE_URL", self.place.url()).spawn().unwrap()
    }

    fn code(&self, line: &str) -> Option<i32> {
        self.start(line).wait().unwrap().code()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.place.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Lets the slow ones go on.
    fn go(&self) {
        File::create(self.place.file("go")).unwrap();
    }

    fn until_free(&self, lock: &str) {
        until("the lease is over", || {
            self.place.json(&["show", lock])[0]["holders"].as_array()?.is_empty().then_some(())
        });
    }
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tenure/src/manual/recipes/shell.md");
    fs::read_to_string(path).unwrap()
}

/// The script of this name, as the page has it.
fn of_the_page(name: &str) -> String {
    let page = page();
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut named =
        blocks.filter(|block| block.lines().nth(1).is_some_and(|l| l.starts_with(&format!("# {name}:"))));
    named.next().unwrap_or_else(|| panic!("the page has no {name}")).to_owned()
}

/// The line of the crontab, without its time and its folder.
fn crontab() -> String {
    let page = page();
    let line = page.lines().find(|line| line.starts_with("0 3 * * * ")).expect("a crontab");
    line.split_once(" && ").expect("a folder").1.to_owned()
}

fn nightly_together(shop: &Shop) {
    let all: Vec<Child> = (0..4).map(|_| shop.start(&crontab())).collect();
    for mut child in all {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    // Two, should it have become 03:00 UTC meanwhile.
    let builds = shop.lines("builds").len();
    assert!((1..=2).contains(&builds), "{builds}");
    assert_eq!(shop.lines("report.csv"), ["data"]);
    let runs = &shop.place.json(&["show", "report"])[0]["runs"];
    assert_eq!(runs.as_array().unwrap().len(), builds);
    assert!(runs.as_array().unwrap().iter().all(|run| run["result"] == "done"), "{runs}");
}

fn nightly_dead(shop: &Shop) {
    File::create(shop.place.file("slow-build")).unwrap();
    let mut first = shop.start(&format!("exec {}", crontab()));
    let build = shop.place.pid_of("slow");
    let mut second = shop.start(&crontab());
    kill(i32::try_from(first.id()).unwrap(), Signal::KILL);
    first.wait().unwrap();
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert!(!crate::support::alive(build), "it was stopped before the second began");
    assert_eq!((shop.lines("builds").len(), shop.lines("report.csv")), (2, vec!["data".to_owned()]));
}

fn deploy_together(shop: &Shop) {
    let all: Vec<Child> = (0..4).map(|n| shop.start(&format!("./deploy.sh v{n}"))).collect();
    for mut child in all {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let log = shop.lines("log");
    assert_eq!(log.len(), 8);
    for steps in log.chunks(2) {
        let version = steps[0].strip_prefix("migrate ").expect("a first step");
        assert_eq!(steps[1], format!("switch {version}"), "two deploys at a time: {log:?}");
    }
    assert_eq!(shop.place.json(&["ls"]), Vec::<serde_json::Value>::new());
}

fn deploy_fails(shop: &Shop) {
    assert_eq!(shop.code("./deploy.sh broken"), Some(9));
    assert_eq!(shop.place.code(&["run", "-n", "deploy/shop", "--", "true"]), Some(0));
    assert_eq!(shop.lines("log"), ["migrate broken"]);
}

fn deploy_interrupted(shop: &Shop) {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut script = shop.start("exec ./deploy.sh slow");
        let step = shop.place.pid_of("slow");
        // As a terminal or a service manager does: everybody in the group.
        kill(i32::try_from(script.id()).unwrap(), signal);
        kill(step, Signal::KILL);
        assert_eq!(script.wait().unwrap().code(), Some(code));
        assert_eq!(shop.place.code(&["run", "-n", "deploy/shop", "--", "true"]), Some(0));
        fs::remove_file(shop.place.file("slow")).unwrap();
    }
    assert_eq!(shop.lines("log"), ["migrate slow"; 2]);
}

fn deploy_dead(shop: &Shop) {
    shop.hurry("deploy.sh");
    let mut script = shop.start("exec ./deploy.sh slow");
    let step = shop.place.pid_of("slow");
    kill(i32::try_from(script.id()).unwrap(), Signal::KILL);
    kill(step, Signal::KILL);
    script.wait().unwrap();
    assert_eq!(shop.code("./deploy.sh v2"), Some(0));
    assert_eq!(shop.lines("log"), ["migrate slow", "migrate v2", "switch v2"]);
}

fn deploy_slow(shop: &Shop) {
    shop.hurry("deploy.sh");
    let mut script = shop.start("./deploy.sh slow");
    shop.place.pid_of("slow");
    shop.until_free("deploy/shop");
    shop.go();
    assert_eq!(script.wait().unwrap().code(), Some(80));
    assert_eq!(shop.lines("log"), ["migrate slow"]);
}

fn deploy_fenced(shop: &Shop) {
    shop.hurry("deploy-fenced.sh");
    let mut script = shop.start("./deploy-fenced.sh slow");
    shop.place.pid_of("slow");
    assert_eq!(shop.code("./deploy-fenced.sh v2"), Some(0), "after the lease of the slow one");
    shop.go();
    assert_eq!(script.wait().unwrap().code(), Some(81));
    assert_eq!(shop.lines("log"), ["migrate slow", "migrate v2", "switch v2"]);
}
