//! Redis: a server of our own, and redis-cli.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use libtest_mimic::Trial;
use tenure::fence::{Domain, Stamp, redis, sql};
use tenure_servers::redis::{NEEDS, Server, Settings};

use crate::trials::{self, Refused, Resource, Side, Slow, stamp};
use crate::{Suite, trial};

pub(crate) const SUITE: Suite = Suite { name: "redis", needs: &NEEDS, trials: all };

fn all() -> Vec<Trial> {
    let mut all = trials::of("redis", || Box::new(Key::new(redis::guarded)));
    all.push(trial("redis::a_damaged_fence_refuses_until_it_is_reset".into(), damaged));
    all.push(trial("redis::what_is_no_token_is_refused".into(), no_tokens));
    let name = "broken::a_fence_that_compares_tokens_as_lua_numbers_is_caught";
    all.push(trial(name.into(), || {
        let by = "tokens_of_any_size_are_compared_exactly";
        let numbers = |body: &str| {
            let proper = "#token < #highest or (#token == #highest and token < highest)";
            let wrong = redis::guarded(body).replace(proper, "tonumber(token) < tonumber(highest)");
            assert_ne!(wrong, redis::guarded(body), "what was to be broken is not there");
            wrong
        };
        assert!(trials::catches(by, &Key::new(numbers)), "it passed {by}");
        assert!(!trials::catches(by, &Key::new(redis::guarded)), "{by} fails always");
    }));
    all
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

pub(crate) fn stop() {
    drop(SERVER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn start() -> Server {
    Server::new(Settings { socket: true, ..Settings::default() }).expect("redis-server starts")
}

fn cli(words: &[&str]) -> String {
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let server = server.get_or_insert_with(start);
    server.cli(words)
}

/// A key of its own.
#[derive(Clone)]
struct Key {
    fence: String,
    value: String,
    guarded: fn(&str) -> String,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Key {
    fn new(guarded: fn(&str) -> String) -> Key {
        let name = format!("{{stock/{}}}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let key = Key { fence: format!("{name}:fence"), value: format!("{name}:n"), guarded };
        assert_eq!(cli(&["SET", &key.value, "100"]), "OK");
        key
    }

    fn run(&self, script: &str, shown: &Stamp, value: &str) -> Result<String, Refused> {
        let [domain, token] = redis::arguments(shown);
        let said = cli(&["EVAL", script, "2", &self.fence, &self.value, &domain, &token, value]);
        match sql::reason(&said) {
            Some(reason) => {
                assert!(said.contains("TENUREFENCE "), "{said}");
                Err(Refused { reason, text: said })
            }
            None => Ok(said),
        }
    }
}

impl Side for Key {
    fn read(&mut self, stamp: &Stamp) -> Result<i64, Refused> {
        let script = (self.guarded)("return redis.call('GET', KEYS[2])");
        self.run(&script, stamp, "").map(|said| said.parse().unwrap_or_else(|_| panic!("{said}")))
    }

    fn write(&mut self, stamp: &Stamp, value: i64) -> Result<(), Refused> {
        let script = (self.guarded)("return redis.call('SET', KEYS[2], ARGV[3])");
        self.run(&script, stamp, &value.to_string()).map(|said| assert_eq!(said, "OK"))
    }
}

impl Resource for Key {
    fn side(&self) -> Box<dyn Side> {
        Box::new(self.clone())
    }

    fn slow(&self) -> Option<Box<dyn Slow>> {
        None // a script is one step
    }

    fn raise(&self, to: &Stamp) {
        let said = self.run(redis::raise(), to, "").expect("no refusal");
        assert!(said.starts_with(to.domain().as_str()), "{said}");
    }

    fn reset(&self, to: &Stamp) {
        let said = self.run(redis::reset(), to, "").expect("no refusal");
        assert_eq!(said, format!("{}\n{}", to.domain(), to.token()));
    }

    fn kept(&self) -> Option<Stamp> {
        let said = cli(&["HMGET", &self.fence, "domain", "token"]);
        let (domain, token) = said.split_once('\n')?;
        Some(Stamp::new(Domain::new(domain).expect("a domain"), token.parse().expect("a token")))
    }
}

/// What is no token is neither admitted nor kept: one above all tokens would shut out every holder.
fn no_tokens() {
    let mut key = Key::new(redis::guarded);
    let seven = stamp("redis:a", 7);
    assert_eq!(key.read(&seven), Ok(100));
    for token in
        ["+8", "008", "0", "-8", "", "8 ", "1e9", "9223372036854775808", "9999999999999999999", "abc"]
    {
        for script in [redis::guarded("return 1").as_str(), redis::raise(), redis::reset()] {
            let said = cli(&["EVAL", script, "1", &key.fence, "redis:a", token]);
            assert!(said.contains("no token"), "{token:?}: {said}");
        }
    }
    assert_eq!(key.kept(), Some(seven));
    key.raise(&stamp("redis:a", i64::MAX));
    assert_eq!(key.kept(), Some(stamp("redis:a", i64::MAX)));
}

fn damaged() {
    let mut key = Key::new(redis::guarded);
    let seven = stamp("redis:a", 7);
    for (field, value) in [
        ("token", "abc"),
        ("token", ""),
        ("token", "1e3"),
        ("token", "07"),
        ("token", "+7"),
        ("token", "9223372036854775808"),
        ("domain", "redis:a"),
    ] {
        cli(&["DEL", &key.fence]);
        cli(&["HSET", &key.fence, field, value]);
        if field == "token" {
            cli(&["HSET", &key.fence, "domain", "redis:a"]);
        }
        let script = redis::guarded("return redis.call('SET', KEYS[2], 1)");
        let said = key.run(&script, &seven, "").expect("no refusal, but an error");
        assert!(said.contains("damaged"), "{field} {value:?}: {said}");
        assert_eq!(cli(&["GET", &key.value]), "100", "nothing happened");
        key.reset(&seven);
        assert_eq!(key.read(&seven), Ok(100));
    }
    cli(&["DEL", &key.fence]);
    cli(&["SET", &key.fence, "something else"]);
    let said = key.run(&redis::guarded("return 1"), &seven, "").expect("an error");
    assert!(said.contains("WRONGTYPE"), "{said}");
}
