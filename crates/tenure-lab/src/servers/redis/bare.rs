//! A Redis client by another author: what programs without Tenure use. It is also a witness: it shares no code with the
//! client that it judges.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo};
use redis::{RedisConnectionInfo, RedisError, cmd};
use tenure::backend::BoxFuture;
use tenure::{Secret, StoreUrl};

use super::super::{Bare, Guest, Visit};
use super::PORT;
use crate::failure::{Doing, Failure, Outcome};

/// How many keys the server looks at in one step.
const STEP: u32 = 1000;
/// What keys of Tenure begin with.
const OURS: &str = "tenure:";
/// Deletes a key if it still has this value.
const COMPARE_AND_DELETE: &str =
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

/// One connection.
pub(super) struct Connection(MultiplexedConnection);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a connection to Redis")
    }
}

/// Connects to the server of a URL without TLS.
pub(super) async fn connect(url: &str) -> Outcome<Box<dyn Bare>> {
    Ok(Box::new(Connection::open(url).await?))
}

impl Connection {
    async fn open(url: &str) -> Outcome<Connection> {
        let parsed = StoreUrl::parse(url)?;
        let shown = parsed.redacted();
        let plain = ["redis", "redis+setnx"].contains(&parsed.scheme.as_str());
        let Some((host, port)) = parsed.hosts.first().filter(|_| plain) else {
            let what = format!("{shown} cannot be reached without Tenure");
            return Err(Failure::config(what, "use redis://HOST, without TLS"));
        };
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = parsed.password.as_ref().map(Secret::expose) {
            let user = parsed.user.as_deref().unwrap_or("default");
            settings = settings.set_username(user).set_password(password);
        }
        if let Ok(database) = parsed.path.trim_start_matches('/').parse() {
            settings = settings.set_db(database);
        }
        let address = ConnectionAddr::Tcp(host.clone(), port.unwrap_or(PORT));
        let reach = || format!("reach {shown}");
        let info = address.into_connection_info().doing(reach)?.set_redis_settings(settings);
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        // A server that is stopped for a while is no error here.
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = Client::open(info).doing(reach)?;
        let connection = client.get_multiplexed_async_connection_with_config(&patient).await;
        Ok(Connection(connection.map_err(|error| refused(&shown, error))?))
    }

    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Outcome<T> {
        command.query_async(&mut self.0).await.map_err(|error| refused("the server", error))
    }

    /// A number of a section of `INFO`.
    async fn info(&mut self, section: &str, field: &str) -> Outcome<Option<f64>> {
        let text: String = self.query(cmd("INFO").arg(section)).await?;
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.find(|(name, _)| *name == field).and_then(|(_, value)| value.trim().parse().ok()))
    }

    /// One step of a walk over the keys.
    async fn scan(&mut self, cursor: u64, pattern: &str) -> Outcome<(u64, Vec<String>)> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.query(&scan).await?;
        Ok((next, keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()))
    }

    /// Whether there is a key that is not Tenure's.
    async fn anybody(&mut self) -> Outcome<bool> {
        let mut cursor = 0;
        loop {
            let (next, keys) = self.scan(cursor, "*").await?;
            if keys.iter().any(|key| !key.starts_with(OURS)) {
                return Ok(true);
            }
            if next == 0 {
                return Ok(false);
            }
            cursor = next;
        }
    }
}

/// An answer that is an error is a matter of the server's settings; anything else is a matter of this run.
fn refused(server: &str, error: RedisError) -> Failure {
    let what = format!("{server} refuses: {error}");
    if error.code().is_some() {
        return Failure::config(what, "check user, password and permissions").because(error);
    }
    Failure::run(what, "look at its log").because(error)
}

impl Bare for Connection {
    fn ping(&mut self) -> BoxFuture<'_, Outcome<()>> {
        Box::pin(async { self.query(&cmd("PING")).await })
    }

    fn set_if_absent<'a>(
        &'a mut self,
        key: &'a str,
        value: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Outcome<bool>> {
        let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        Box::pin(async move {
            let mut set = cmd("SET");
            set.arg(key).arg(value).arg("NX").arg("PX").arg(ms);
            Ok(self.query::<Option<String>>(&set).await?.is_some())
        })
    }

    fn delete<'a>(&'a mut self, key: &'a str) -> BoxFuture<'a, Outcome<()>> {
        Box::pin(async move { self.query(cmd("DEL").arg(key)).await })
    }

    fn delete_own<'a>(&'a mut self, key: &'a str, value: &'a str) -> BoxFuture<'a, Outcome<bool>> {
        Box::pin(async move {
            let mut eval = cmd("EVAL");
            eval.arg(COMPARE_AND_DELETE).arg(1).arg(key).arg(value);
            self.query(&eval).await
        })
    }

    fn spent(&mut self) -> BoxFuture<'_, Option<(f64, f64)>> {
        Box::pin(async {
            let user = self.info("cpu", "used_cpu_user").await.ok()??;
            let system = self.info("cpu", "used_cpu_sys").await.ok()??;
            let memory = self.info("memory", "used_memory").await.ok()??;
            Some((user + system, memory / 1024.0))
        })
    }
}

/// The lab as a guest on somebody's server.
pub(super) struct Visitor;

impl Guest for Visitor {
    fn visit<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Outcome<Visit>> {
        Box::pin(async move {
            let parsed = StoreUrl::parse(url)?;
            if parsed.options.iter().any(|(key, _)| key == "prefix") {
                let advice = "leave ?prefix= out of the URL";
                return Err(Failure::usage("the trials have prefixes of their own", advice));
            }
            if !super::super::of(url)?.reaches(url) {
                return Ok(Visit::Unseen);
            }
            let mut server = Connection::open(url).await?;
            let keys: u64 = server.query(&cmd("DBSIZE")).await?;
            let others = keys > 0 && server.anybody().await?;
            Ok(if others { Visit::Others(keys) } else { Visit::Ours(keys) })
        })
    }

    /// The short records that keep last tokens, and marks.
    fn leave<'a>(&'a self, url: &'a str, namespaces: &'a str) -> BoxFuture<'a, Outcome<()>> {
        Box::pin(async move {
            if !super::super::of(url)?.reaches(url) {
                return Ok(());
            }
            let mut server = Connection::open(url).await?;
            // A namespace is one level of a name: of its characters, a key writes only these in another way.
            let escaped = namespaces.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
            for begin in [format!("{OURS}{{{escaped}"), namespaces.to_owned()] {
                let pattern: String = begin
                    .chars()
                    .flat_map(|c| "*?[]\\^-".contains(c).then_some('\\').into_iter().chain([c]))
                    .chain(['*'])
                    .collect();
                let mut cursor = 0;
                loop {
                    let (next, keys) = server.scan(cursor, &pattern).await?;
                    for key in keys.iter().filter(|key| key.starts_with(&begin)) {
                        server.delete(key).await?;
                    }
                    if next == 0 {
                        break;
                    }
                    cursor = next;
                }
            }
            Ok(())
        })
    }

    fn advice(&self) -> &'static str {
        "name a database of its own, like redis://127.0.0.1/15, or say --yes: the trials touch no key but theirs, and \
         keep the server busy"
    }
}
