//! Upstreams: where requests go, and how one of the nodes is picked.

mod nodes;

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

pub use nodes::Node;

use crate::error::{DecodeError, decode};
use crate::timeout::seconds;
use crate::{Labels, ResourceId, Timeout};

/// An APISIX upstream with its defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// `name`, for people.
    pub name: Option<String>,
    /// `labels`.
    pub labels: Labels,
    /// `nodes`, or `service_name` with `discovery_type`.
    pub targets: Targets,
    /// `type`, with `hash_on` and `key`.
    pub algorithm: Algorithm,
    /// `retries`; `None` means one fewer than there are nodes.
    pub retries: Option<u32>,
    /// `retry_timeout`; `None` means no limit.
    pub retry_timeout: Option<Duration>,
    /// `timeout`; `None` means 60 seconds each.
    pub timeout: Option<Timeout>,
    /// `scheme`.
    pub scheme: Scheme,
    /// `pass_host`, with `upstream_host`.
    pub pass_host: PassHost,
    /// `keepalive_pool`.
    pub keepalive_pool: Option<KeepalivePool>,
    /// `checks`, unchanged.
    pub checks: Option<Value>,
    /// `tls`.
    pub tls: Option<UpstreamTls>,
}

/// Where the nodes of an upstream come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// `nodes`; empty answers with 503.
    Nodes(Vec<Node>),
    /// A registry.
    Discovery(Discovery),
}

/// A service in a registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// `discovery_type`: `mesh`, `dns`, …
    pub registry: String,
    /// `service_name`.
    pub service_name: String,
    /// `discovery_args`.
    pub args: Map<String, Value>,
}

/// How a node is picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Algorithm {
    /// `roundrobin` by weight, the default.
    RoundRobin,
    /// `least_conn`
    LeastConnections,
    /// `ewma`
    Ewma,
    /// `chash`
    ConsistentHash(HashOn),
    /// A name that APISIX would load as a module; requests fail with 500.
    Unknown(String),
}

/// What is hashed; an empty value falls back to the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// A variable such as `remote_addr`, `uri`, `arg_id`.
    Variable(String),
    /// A request header.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// The name of the authenticated consumer.
    Consumer,
    /// Text with variables: `$host$remote_addr`.
    Combination(String),
}

/// The protocol toward the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the protocols'")]
pub enum Scheme {
    #[default]
    Http,
    Https,
    Grpc,
    Grpcs,
    Tcp,
    Tls,
    Udp,
    Kafka,
}

impl Scheme {
    /// The port of a node that names none.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Http | Self::Grpc => Some(80),
            Self::Https | Self::Grpcs => Some(443),
            Self::Tcp | Self::Tls | Self::Udp | Self::Kafka => None,
        }
    }

    /// Whether nodes are spoken to over TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs | Self::Tls)
    }

    /// Whether nodes are spoken to over HTTP/2.
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// Which host name the upstream is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassHost {
    /// The client's, the default.
    Pass,
    /// The node's domain or address.
    Node,
    /// `upstream_host`.
    Rewrite(String),
}

/// How many idle connections are kept, for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct KeepalivePool {
    /// `size`: the most idle connections.
    #[serde(default = "KeepalivePool::default_size")]
    pub size: u32,
    /// `idle_timeout`.
    #[serde(default = "KeepalivePool::default_idle_timeout", deserialize_with = "seconds")]
    pub idle_timeout: Duration,
    /// `requests`: the most requests on one connection.
    #[serde(default = "KeepalivePool::default_requests")]
    pub requests: u32,
}

impl KeepalivePool {
    fn default_size() -> u32 {
        320
    }

    fn default_idle_timeout() -> Duration {
        Duration::from_secs(60)
    }

    fn default_requests() -> u32 {
        1000
    }
}

/// TLS toward the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The certificate shown to the nodes.
    pub client: Option<ClientIdentity>,
    /// `verify`: whether the nodes' certificates are verified.
    pub verify: bool,
}

/// The certificate shown to the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    /// `client_cert` and `client_key`.
    Inline(crate::CertificatePair),
    /// `client_cert_id`: an ssl of type client.
    Reference(ResourceId),
}

impl Upstream {
    /// Decodes a stored upstream.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        decode(value)
    }

    /// The nodes that are written down; none for a registry's.
    pub fn nodes(&self) -> &[Node] {
        match &self.targets {
            Targets::Nodes(nodes) => nodes,
            Targets::Discovery(_) => &[],
        }
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawUpstream::deserialize(deserializer)?.compile().map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
struct RawUpstream {
    name: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default, deserialize_with = "nodes::either_form")]
    nodes: Option<Vec<Node>>,
    service_name: Option<String>,
    discovery_type: Option<String>,
    #[serde(default)]
    discovery_args: Map<String, Value>,
    #[serde(rename = "type")]
    algorithm: Option<String>,
    hash_on: Option<String>,
    key: Option<String>,
    retries: Option<u32>,
    #[serde(default, deserialize_with = "seconds")]
    retry_timeout: Duration,
    timeout: Option<Timeout>,
    #[serde(default)]
    scheme: Scheme,
    pass_host: Option<String>,
    upstream_host: Option<String>,
    keepalive_pool: Option<KeepalivePool>,
    checks: Option<Value>,
    tls: Option<RawTls>,
}

#[derive(Deserialize)]
struct RawTls {
    client_cert: Option<String>,
    client_key: Option<String>,
    client_cert_id: Option<ResourceId>,
    #[serde(default)]
    verify: bool,
}

impl RawUpstream {
    fn compile(self) -> Result<Upstream, DecodeError> {
        let algorithm = algorithm(self.algorithm, self.hash_on.as_deref(), self.key)?;
        let targets = match (self.nodes, self.service_name, self.discovery_type) {
            (Some(nodes), None, None) => Targets::Nodes(nodes),
            (None, Some(service_name), Some(registry)) => {
                let args = self.discovery_args;
                Targets::Discovery(Discovery { registry, service_name, args })
            }
            _ => {
                let reason = "either nodes or service_name and discovery_type are required";
                return Err(DecodeError::new("nodes", reason));
            }
        };
        Ok(Upstream {
            name: self.name,
            labels: self.labels,
            targets,
            algorithm,
            retries: self.retries,
            retry_timeout: Some(self.retry_timeout).filter(|limit| !limit.is_zero()),
            timeout: self.timeout,
            scheme: self.scheme,
            pass_host: pass_host(self.pass_host.as_deref(), self.upstream_host)?,
            keepalive_pool: self.keepalive_pool,
            checks: self.checks,
            tls: self.tls.map(RawTls::compile).transpose()?,
        })
    }
}

impl RawTls {
    fn compile(self) -> Result<UpstreamTls, DecodeError> {
        let client = match (self.client_cert, self.client_key, self.client_cert_id) {
            (None, None, None) => None,
            (Some(cert), Some(key), None) => {
                Some(ClientIdentity::Inline(crate::CertificatePair { cert, key }))
            }
            (None, None, Some(id)) => Some(ClientIdentity::Reference(id)),
            _ => {
                let reason = "either client_cert with client_key or client_cert_id";
                return Err(DecodeError::new("tls", reason));
            }
        };
        Ok(UpstreamTls { client, verify: self.verify })
    }
}

fn algorithm(
    name: Option<String>,
    hash_on: Option<&str>,
    key: Option<String>,
) -> Result<Algorithm, DecodeError> {
    let name = name.unwrap_or_else(|| "roundrobin".to_owned());
    Ok(match name.as_str() {
        "roundrobin" => Algorithm::RoundRobin,
        "least_conn" => Algorithm::LeastConnections,
        "ewma" => Algorithm::Ewma,
        "chash" => Algorithm::ConsistentHash(hash(hash_on.unwrap_or("vars"), key)?),
        _ => Algorithm::Unknown(name),
    })
}

fn hash(hash_on: &str, key: Option<String>) -> Result<HashOn, DecodeError> {
    if hash_on == "consumer" {
        return Ok(HashOn::Consumer);
    }
    let key = key.ok_or_else(|| DecodeError::new("key", "missing key"))?;
    Ok(match hash_on {
        "vars" => HashOn::Variable(key),
        "header" => HashOn::Header(key),
        "cookie" => HashOn::Cookie(key),
        "vars_combinations" => HashOn::Combination(key),
        other => {
            return Err(DecodeError::new("hash_on", format!("unknown value {other:?}")));
        }
    })
}

fn pass_host(mode: Option<&str>, host: Option<String>) -> Result<PassHost, DecodeError> {
    Ok(match (mode.unwrap_or("pass"), host) {
        ("pass", _) => PassHost::Pass,
        ("node", _) => PassHost::Node,
        ("rewrite", Some(host)) => PassHost::Rewrite(host),
        ("rewrite", None) => {
            let reason = "`upstream_host` can't be empty when `pass_host` is `rewrite`";
            return Err(DecodeError::new("upstream_host", reason));
        }
        (other, _) => {
            return Err(DecodeError::new("pass_host", format!("unknown value {other:?}")));
        }
    })
}

#[cfg(test)]
mod tests;
