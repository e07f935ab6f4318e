//! Options in configuration files, behind the cargo feature `serde`. A duration is a text such as `"10s"` or `"1h30m"`. A
//! field that does not exist is refused, and so is a value that is out of range.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::backend::Owner;
use crate::capability::{Needs, Scope, TokenStrength, Transfer, Visibility};
use crate::core::duration;
use crate::error::Error;
use crate::options::{LockOptions, check_owner};

#[cfg(test)]
mod tests;

/// A duration as people write it.
#[derive(Clone, Copy)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration in quotes, like \"250ms\", \"30s\" or \"1h30m\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                duration::parse(text).map(Span).map_err(E::custom)
            }
        }
        from.deserialize_str(Text)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&duration::show(self.0))
    }
}

/// What a file says of [`LockOptions`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "LockOptions")]
pub(crate) struct LockOptionsFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fair: bool,
}

impl TryFrom<LockOptionsFile> for LockOptions {
    type Error = Error;

    fn try_from(file: LockOptionsFile) -> Result<LockOptions, Error> {
        let options = LockOptions {
            ttl: file.ttl.map(|span| span.0),
            reason: file.reason.map(Into::into),
            owner: file.owner.map(Into::into),
            fair: file.fair,
        };
        options.check()?;
        Ok(options)
    }
}

impl From<LockOptions> for LockOptionsFile {
    fn from(options: LockOptions) -> LockOptionsFile {
        LockOptionsFile {
            ttl: options.ttl.map(Span),
            reason: options.reason.map(|reason| (*reason).to_owned()),
            owner: options.owner.map(|owner| (*owner).clone()),
            fair: options.fair,
        }
    }
}

/// What a file says of an [`Owner`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Owner")]
pub(crate) struct OwnerFile {
    #[serde(default)]
    user: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    program: String,
}

impl TryFrom<OwnerFile> for Owner {
    type Error = Error;

    fn try_from(file: OwnerFile) -> Result<Owner, Error> {
        let OwnerFile { user, host, pid, program } = file;
        let owner = Owner { user, host, pid, program };
        check_owner(&owner)?;
        Ok(owner)
    }
}

impl From<Owner> for OwnerFile {
    fn from(owner: Owner) -> OwnerFile {
        let Owner { user, host, pid, program } = owner;
        OwnerFile { user, host, pid, program }
    }
}

/// What a file says of [`Needs`]: a field for each method.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "Needs")]
pub(crate) struct NeedsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<TokenStrength>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) visibility: Option<Visibility>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transfer: Option<Transfer>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fifo: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) push: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) survives_restart: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) survives_failover: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) survives_power_loss: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) survives_data_loss: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keeps: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) evict: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) previous: bool,
}

impl From<NeedsFile> for Needs {
    fn from(file: NeedsFile) -> Needs {
        type Switch = (bool, fn(Needs) -> Needs);
        let switches: [Switch; 9] = [
            (file.fifo, Needs::fifo),
            (file.push, Needs::push),
            (file.survives_restart, Needs::survives_restart),
            (file.survives_failover, Needs::survives_failover),
            (file.survives_power_loss, Needs::survives_power_loss),
            (file.survives_data_loss, Needs::survives_data_loss),
            (file.keeps, Needs::keeps),
            (file.evict, Needs::evict),
            (file.previous, Needs::previous),
        ];
        let mut needs = Needs::new();
        needs = file.scope.map_or(needs, |scope| needs.scope(scope));
        needs = file.token.map_or(needs, |token| needs.token(token));
        needs = file.visibility.map_or(needs, |visibility| needs.visibility(visibility));
        needs = file.transfer.map_or(needs, |transfer| needs.transfer(transfer));
        switches.into_iter().filter(|(on, _)| *on).fold(needs, |needs, (_, switch)| switch(needs))
    }
}

impl From<Needs> for NeedsFile {
    fn from(needs: Needs) -> NeedsFile {
        needs.file()
    }
}
