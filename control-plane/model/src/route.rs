//! Routes: which requests go where.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::error::{DecodeError, decode};
use crate::{Labels, Plugins, ResourceId, Timeout, Upstream, Vars};

/// The label that says where a route is served.
const SCOPE_LABEL: &str = "weft.dev/scope";

/// An APISIX route with its defaults applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// `name`, for people.
    pub name: Option<String>,
    /// `labels`.
    pub labels: Labels,
    /// `uri` or `uris`: exact paths, or prefixes that end in `*`.
    pub uris: Vec<String>,
    /// `host` or `hosts` in lower case, exact or with a leading `*`; none
    /// means the service's, and without those every host.
    pub hosts: Vec<String>,
    /// `methods`; none means all.
    pub methods: Vec<Method>,
    /// `remote_addr` or `remote_addrs`; none means all.
    pub remote_addrs: Vec<IpNet>,
    /// `vars`: further conditions.
    pub vars: Option<Vars>,
    /// `priority`; higher is tried earlier among routes of the same path.
    pub priority: i64,
    /// `status`; a disabled route is stored and not served.
    pub enabled: bool,
    /// `plugins`, unchanged.
    pub plugins: Plugins,
    /// `plugin_config_id`: plugins that stand between the route's and its service's.
    pub plugin_config_id: Option<ResourceId>,
    /// `service_id`.
    pub service_id: Option<ResourceId>,
    /// `upstream`, inline; wins over the service's.
    pub upstream: Option<Arc<Upstream>>,
    /// `upstream_id`; wins over the service's.
    pub upstream_id: Option<ResourceId>,
    /// `enable_websocket`; wins over the service's.
    pub enable_websocket: Option<bool>,
    /// `timeout`; replaces the upstream's completely.
    pub timeout: Option<Timeout>,
}

/// A request method that a route can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are RFC 9110's")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
    Patch,
    Head,
    Options,
    Connect,
    Trace,
    Purge,
}

impl Method {
    /// The method as it stands in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Purge => "PURGE",
        }
    }
}

/// Where a route is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// At the edge and inside the mesh.
    Everywhere,
    /// At the edge only.
    Edge,
    /// Inside the mesh only.
    Mesh,
}

impl Route {
    /// Decodes a stored route.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        decode(value)
    }

    /// Where the route is served, by its label `weft.dev/scope`.
    pub fn scope(&self) -> Scope {
        match self.labels.get(SCOPE_LABEL).map(String::as_str) {
            Some("edge") => Scope::Edge,
            Some("mesh") => Scope::Mesh,
            _ => Scope::Everywhere,
        }
    }
}

impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawRoute::deserialize(deserializer)?;
        raw.compile().map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
struct RawRoute {
    name: Option<String>,
    #[serde(default)]
    labels: Labels,
    uri: Option<String>,
    #[serde(default)]
    uris: Vec<String>,
    host: Option<String>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    methods: Vec<Method>,
    remote_addr: Option<String>,
    #[serde(default)]
    remote_addrs: Vec<String>,
    vars: Option<Vars>,
    #[serde(default)]
    priority: i64,
    #[serde(default = "enabled")]
    status: u8,
    #[serde(default)]
    plugins: Plugins,
    plugin_config_id: Option<ResourceId>,
    service_id: Option<ResourceId>,
    upstream: Option<Arc<Upstream>>,
    upstream_id: Option<ResourceId>,
    enable_websocket: Option<bool>,
    timeout: Option<Timeout>,
}

impl RawRoute {
    fn compile(self) -> Result<Route, DecodeError> {
        let uris = one_or_many(self.uri, self.uris, "uri")?;
        if uris.is_empty() {
            return Err(DecodeError::new("uri", "one of uri and uris is required"));
        }
        let remote_addrs = one_or_many(self.remote_addr, self.remote_addrs, "remote_addr")?;
        Ok(Route {
            name: self.name,
            labels: self.labels,
            uris,
            hosts: lower_case(one_or_many(self.host, self.hosts, "host")?),
            methods: self.methods,
            remote_addrs: remote_addrs
                .iter()
                .map(|text| network(text))
                .collect::<Result<_, _>>()?,
            vars: self.vars,
            priority: self.priority,
            enabled: self.status == 1,
            plugins: self.plugins,
            plugin_config_id: self.plugin_config_id,
            service_id: self.service_id,
            upstream: self.upstream,
            upstream_id: self.upstream_id,
            enable_websocket: self.enable_websocket,
            timeout: self.timeout,
        })
    }
}

/// Host names compare without regard to case.
pub(crate) fn lower_case(hosts: Vec<String>) -> Vec<String> {
    hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect()
}

pub(crate) fn enabled() -> u8 {
    1
}

fn one_or_many(
    one: Option<String>,
    many: Vec<String>,
    field: &str,
) -> Result<Vec<String>, DecodeError> {
    match one {
        Some(_) if !many.is_empty() => {
            Err(DecodeError::new(field, format!("only one of {field} or {field}s is allowed")))
        }
        Some(one) => Ok(vec![one]),
        None => Ok(many),
    }
}

/// An address, or a network in CIDR notation.
pub(crate) fn network(text: &str) -> Result<IpNet, DecodeError> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| address())
        .map_err(|_| DecodeError::new("remote_addr", format!("{text:?} is no address or CIDR")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_uri_and_many_are_the_same_field() {
        let one = Route::from_json(&json!({"uri": "/a*", "host": "Foo.com"})).expect("a route");
        assert_eq!((one.uris, one.hosts), (vec!["/a*".to_owned()], vec!["foo.com".to_owned()]));
        let many = Route::from_json(&json!({"uris": ["/a", "/b"]})).expect("a route");
        assert_eq!(many.uris.len(), 2);
        assert!(many.enabled && many.priority == 0 && many.scope() == Scope::Everywhere);
    }

    #[test]
    fn a_wrong_field_is_named() {
        let error = Route::from_json(&json!({"uri": "/", "upstream": {"nodes": {"a:x": 1}}}))
            .expect_err("no port");
        assert!(error.to_string().contains("upstream"), "{error}");
        let error = Route::from_json(&json!({"uri": "/", "remote_addr": "x"})).expect_err("no ip");
        assert!(error.reason.contains("remote_addr"), "{error}");
    }

    #[test]
    fn the_label_decides_the_scope() {
        let json = json!({"uri": "/", "labels": {"weft.dev/scope": "mesh"}});
        assert_eq!(Route::from_json(&json).expect("a route").scope(), Scope::Mesh);
    }
}
