//! The two forms of `nodes`: a map of weights, or an array of objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

/// One node of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// A domain or an address; an IPv6 address stands without brackets.
    pub host: String,
    /// `None` means the port of the scheme.
    pub port: Option<u16>,
    /// Share of the requests; a node of weight 0 is never picked.
    pub weight: u32,
    /// Higher levels are tried first.
    pub priority: i32,
    /// `metadata`.
    pub metadata: Map<String, Value>,
}

/// Reads `nodes` in either form into one.
pub(super) fn either_form<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Node>>, D::Error> {
    let weight = "`nodes` as a map of \"host:port\" to a weight or an array of nodes";
    let nodes = match Option::<Raw>::deserialize(deserializer) {
        Ok(None) => return Ok(None),
        Ok(Some(Raw::Map(map))) => {
            map.into_iter().map(|(key, weight)| from_entry(&key, weight)).collect()
        }
        Ok(Some(Raw::Array(items))) => items.into_iter().map(from_object).collect(),
        Err(error) => Err(format!("expected {weight}: {error}")),
    };
    nodes.map(Some).map_err(de::Error::custom)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Map(BTreeMap<String, u32>),
    Array(Vec<RawNode>),
}

#[derive(Deserialize)]
struct RawNode {
    host: String,
    port: Option<u16>,
    weight: u32,
    #[serde(default)]
    priority: i32,
    metadata: Option<Map<String, Value>>,
}

fn from_entry(key: &str, weight: u32) -> Result<Node, String> {
    let (host, port) = split_port(key)?;
    let host = unbracket(host)?;
    Ok(Node { host, port, weight, priority: 0, metadata: Map::new() })
}

fn from_object(raw: RawNode) -> Result<Node, String> {
    let host = unbracket(&raw.host)?;
    if raw.port == Some(0) {
        return Err("invalid port 0".to_owned());
    }
    let metadata = raw.metadata.unwrap_or_default();
    Ok(Node { host, port: raw.port, weight: raw.weight, priority: raw.priority, metadata })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn split_port(key: &str) -> Result<(&str, Option<u16>), String> {
    let after_host = key.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = key[after_host..].rfind(':') else {
        return Ok((key, None));
    };
    let (host, port) = (&key[..after_host + colon], &key[after_host + colon + 1..]);
    match port.parse::<u16>() {
        Ok(number) if number > 0 => Ok((host, Some(number))),
        _ => Err(format!("invalid port {port}")),
    }
}

fn unbracket(host: &str) -> Result<String, String> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(address) => Ok(address.to_owned()),
        None if host.contains(':') => Err(format!("IPv6 address {host} must stand in brackets")),
        None => Ok(host.to_owned()),
    }
}
