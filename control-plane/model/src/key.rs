//! Kinds, ids and the keys under which resources are stored.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Where APISIX's resources are kept (`deployment.etcd.prefix`).
const APISIX_PREFIX: &str = "/apisix";
/// Where Weft's own resources are kept.
const WEFT_PREFIX: &str = "/weft";
/// The most characters of an id (APISIX's `id` schema).
const ID_MAX_LENGTH: usize = 64;

/// The kinds of resources that the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// APISIX `routes`.
    Route,
    /// APISIX `stream_routes`.
    StreamRoute,
    /// APISIX `services`.
    Service,
    /// APISIX `upstreams`.
    Upstream,
    /// APISIX `ssls`.
    Ssl,
    /// APISIX `consumers`, by user name.
    Consumer,
    /// APISIX `consumers/{username}/credentials`; the id is `username/credentials/id`.
    Credential,
    /// APISIX `consumer_groups`.
    ConsumerGroup,
    /// APISIX `plugin_configs`.
    PluginConfig,
    /// APISIX `global_rules`.
    GlobalRule,
    /// APISIX `plugin_metadata`, by plugin.
    PluginMetadata,
    /// APISIX `protos`.
    Proto,
    /// APISIX `secrets`; the id is `manager/id`.
    Secret,
    /// Weft's `peer_authentications`.
    PeerAuthentication,
    /// Weft's `authorization_policies`.
    AuthorizationPolicy,
    /// Weft's `mesh`, of which there is one item, named `default`.
    Mesh,
}

impl ResourceKind {
    /// Every kind, in the order in which references point (targets last).
    pub const ALL: [Self; 16] = [
        Self::Route,
        Self::StreamRoute,
        Self::GlobalRule,
        Self::Credential,
        Self::Consumer,
        Self::ConsumerGroup,
        Self::PluginConfig,
        Self::Service,
        Self::Upstream,
        Self::Ssl,
        Self::Proto,
        Self::PluginMetadata,
        Self::Secret,
        Self::PeerAuthentication,
        Self::AuthorizationPolicy,
        Self::Mesh,
    ];

    /// The directory of this kind, also its name in a path: `routes`.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Route => "routes",
            Self::StreamRoute => "stream_routes",
            Self::Service => "services",
            Self::Upstream => "upstreams",
            Self::Ssl => "ssls",
            Self::Consumer => "consumers",
            Self::Credential => "credentials",
            Self::ConsumerGroup => "consumer_groups",
            Self::PluginConfig => "plugin_configs",
            Self::GlobalRule => "global_rules",
            Self::PluginMetadata => "plugin_metadata",
            Self::Proto => "protos",
            Self::Secret => "secrets",
            Self::PeerAuthentication => "peer_authentications",
            Self::AuthorizationPolicy => "authorization_policies",
            Self::Mesh => "mesh",
        }
    }

    /// The kind in the singular, as error messages name it: `route`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::StreamRoute => "stream route",
            Self::Service => "service",
            Self::Upstream => "upstream",
            Self::Ssl => "ssl",
            Self::Consumer => "consumer",
            Self::Credential => "credential",
            Self::ConsumerGroup => "consumer group",
            Self::PluginConfig => "plugin config",
            Self::GlobalRule => "global rule",
            Self::PluginMetadata => "plugin metadata",
            Self::Proto => "proto",
            Self::Secret => "secret",
            Self::PeerAuthentication => "peer authentication",
            Self::AuthorizationPolicy => "authorization policy",
            Self::Mesh => "mesh",
        }
    }

    /// The prefix of every key of this kind, with the slash: `/apisix/routes/`.
    pub fn prefix(self) -> String {
        match self {
            Self::PeerAuthentication | Self::AuthorizationPolicy | Self::Mesh => {
                format!("{WEFT_PREFIX}/{}/", self.directory())
            }
            // They stand below their consumers.
            Self::Credential => Self::Consumer.prefix(),
            _ => format!("{APISIX_PREFIX}/{}/", self.directory()),
        }
    }

    /// The id that `text` is for this kind, if it is one.
    pub fn id(self, text: &str) -> Option<ResourceId> {
        let plain = |text: &str| text.parse::<ResourceId>().is_ok();
        let valid = match self {
            Self::Consumer => is_username(text),
            Self::Credential => text
                .split_once("/credentials/")
                .is_some_and(|(consumer, id)| is_username(consumer) && plain(id)),
            Self::Secret => {
                text.split_once('/').is_some_and(|(manager, id)| plain(manager) && plain(id))
            }
            _ => plain(text),
        };
        valid.then(|| ResourceId(text.into()))
    }

    /// Whether a resource of this kind does anything to traffic, or is only
    /// kept and checked.
    pub fn has_effect(self) -> bool {
        match self {
            Self::Route
            | Self::StreamRoute
            | Self::Service
            | Self::Upstream
            | Self::Ssl
            | Self::Consumer
            | Self::Credential
            | Self::ConsumerGroup
            | Self::PluginConfig
            | Self::GlobalRule
            | Self::PluginMetadata
            | Self::PeerAuthentication
            | Self::AuthorizationPolicy
            | Self::Mesh => true,
            Self::Proto | Self::Secret => false,
        }
    }
}

/// APISIX's rule for `username`.
fn is_username(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=256).contains(&text.len()) && text.bytes().all(allowed)
}

/// The id of a resource, unique within its kind.
///
/// APISIX allows a string of letters, digits, `-`, `_` and `.` or an integer
/// from 1; an integer is kept as its decimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ResourceId(Arc<str>);

/// An id that APISIX's `id` schema refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id: 1 to 64 letters, digits, '-', '_' or '.'")]
pub struct IdError(String);

impl ResourceId {
    /// Stands for the id that a resource is about to get; no stored one has it.
    pub fn unnamed() -> Self {
        Self("".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ResourceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > ID_MAX_LENGTH || !text.bytes().all(allowed) {
            return Err(IdError(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an id: a string or an integer from 1")]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(0) => Err(de::Error::custom("an id that is a number starts at 1")),
            Raw::Number(number) => Ok(Self(number.to_string().into())),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// The key under which a resource is stored: `/apisix/routes/1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// The kind, which decides the directory.
    pub kind: ResourceKind,
    /// The last segment.
    pub id: ResourceId,
}

impl ResourceKey {
    /// The key of the resource `id` of `kind`.
    pub fn new(kind: ResourceKind, id: ResourceId) -> Self {
        Self { kind, id }
    }

    /// The one key of the mesh's settings.
    pub fn mesh() -> Self {
        Self { kind: ResourceKind::Mesh, id: ResourceId("default".into()) }
    }

    /// Reads a stored key. `None` for keys that hold no resource: placeholders
    /// of directories, the id generator, kinds that Weft doesn't know.
    pub fn parse(key: &str) -> Option<Self> {
        ResourceKind::ALL.into_iter().find_map(|kind| {
            let id = kind.id(key.strip_prefix(kind.prefix().as_str())?)?;
            Some(Self { kind, id })
        })
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_layout_of_apisix() {
        for key in [
            "/apisix/routes/1",
            "/apisix/ssls/a.b-c_d",
            "/weft/peer_authentications/x",
            "/apisix/consumers/jack",
            "/apisix/consumers/jack/credentials/c.1",
            "/apisix/secrets/vault/1",
        ] {
            assert_eq!(ResourceKey::parse(key).expect("a key").to_string(), key);
        }
    }

    #[test]
    fn keys_without_a_resource_are_none() {
        for key in [
            "/apisix/routes/",
            "/apisix/gen_id",
            "/apisix/routes/1/2",
            "/other/routes/1",
            "/apisix/secrets/vault",
            "/apisix/consumers/a.b",
        ] {
            assert_eq!(ResourceKey::parse(key), None, "{key}");
        }
    }

    #[test]
    fn integers_are_ids_and_zero_is_not() {
        let id: ResourceId = serde_json::from_str("12").expect("an id");
        assert_eq!(id.as_str(), "12");
        assert!(serde_json::from_str::<ResourceId>("0").is_err());
        assert!(serde_json::from_str::<ResourceId>("\"a b\"").is_err());
    }
}
