//! Stream routes: which connections go where.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use crate::error::{DecodeError, decode};
use crate::kept::KeptFields;
use crate::route::network;
use crate::{Plugins, ResourceId, Upstream};

/// An APISIX stream route.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StreamRoute {
    /// `server_port`; none means all.
    pub server_port: Option<u16>,
    /// `server_addr`: the address that was called; none means all.
    #[serde(default, deserialize_with = "a_network")]
    pub server_addr: Option<IpNet>,
    /// `remote_addr`: the caller's; none means all.
    #[serde(default, deserialize_with = "a_network")]
    pub remote_addr: Option<IpNet>,
    /// `sni`, exact or with a leading `*`; of TLS connections alone.
    pub sni: Option<String>,
    /// `upstream`, inline.
    pub upstream: Option<Arc<Upstream>>,
    /// `upstream_id`
    pub upstream_id: Option<ResourceId>,
    /// `service_id`: its upstream and plugins, unless the route has its own.
    pub service_id: Option<ResourceId>,
    /// `plugins`, unchanged.
    #[serde(default)]
    pub plugins: Plugins,
    /// `protocol`, unchanged: what is spoken inside the connection.
    pub protocol: Option<Value>,
}

impl StreamRoute {
    /// Decodes a stored stream route.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_fields(fields: &KeptFields) -> Result<Self, DecodeError> {
        let mut route: Self = decode(&Value::Object(fields.clone()))?;
        route.sni = route.sni.map(|sni| sni.to_ascii_lowercase());
        Ok(route)
    }
}

fn a_network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| network(&text)).transpose().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(value: &Value) -> Result<StreamRoute, DecodeError> {
        StreamRoute::from_fields(value.as_object().expect("an object"))
    }

    #[test]
    fn addresses_are_networks_and_names_are_lower_case() {
        let one = json!({"remote_addr": "10.0.0.1", "server_addr": "10.0.0.0/8", "sni": "A.com"});
        let one = route(&one).expect("a stream route");
        assert_eq!(one.remote_addr, "10.0.0.1/32".parse().ok());
        assert_eq!(one.server_addr, "10.0.0.0/8".parse().ok());
        assert_eq!(one.sni.as_deref(), Some("a.com"));
    }

    #[test]
    fn a_wrong_address_is_named() {
        let error = route(&json!({"remote_addr": "here"})).expect_err("no address");
        assert_eq!(error.path, "remote_addr");
    }
}
