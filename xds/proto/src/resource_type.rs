//! The kinds of resources that the discovery services carry.

use std::fmt;

use prost::Message;

use crate::{Any, AnyError, any::type_name};

/// A kind of xDS resource. The order of the variants is the order in which a server pushes them
/// (make before break: clusters and their endpoints before the listeners and routes that use
/// them).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoint,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.ScopedRouteConfiguration` (SRDS).
    ScopedRoute,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
    /// `envoy.config.route.v3.VirtualHost` (VHDS).
    VirtualHost,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.core.v3.TypedExtensionConfig` (ECDS).
    ExtensionConfig,
    /// `envoy.service.runtime.v3.Runtime` (RTDS).
    Runtime,
    /// `istio.networking.nds.v1.NameTable` (NDS).
    NameTable,
}

impl ResourceType {
    /// Every kind, in push order.
    pub const ALL: [Self; 10] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::ScopedRoute,
        Self::Route,
        Self::VirtualHost,
        Self::Secret,
        Self::ExtensionConfig,
        Self::Runtime,
        Self::NameTable,
    ];

    /// Full type URL, as it stands in discovery requests.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::ScopedRoute => {
                "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
            }
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::ExtensionConfig => {
                "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
            }
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            Self::NameTable => "type.googleapis.com/istio.networking.nds.v1.NameTable",
        }
    }

    /// The kind that a type URL names, whatever stands before its last `/`.
    #[must_use]
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        let name = type_name(type_url);
        Self::ALL.into_iter().find(|kind| type_name(kind.type_url()) == name)
    }

    /// The name that people use: `CDS`, `EDS`, `LDS`, …
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoint => "EDS",
            Self::Listener => "LDS",
            Self::ScopedRoute => "SRDS",
            Self::Route => "RDS",
            Self::VirtualHost => "VHDS",
            Self::Secret => "SDS",
            Self::ExtensionConfig => "ECDS",
            Self::Runtime => "RTDS",
            Self::NameTable => "NDS",
        }
    }

    /// Whether a state-of-the-world response is the full set, so that what it leaves out is
    /// gone. Only listeners, clusters and the one table of names are; the other types are merged by
    /// name.
    #[must_use]
    pub const fn is_full_state(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::NameTable)
    }

    /// The name under which `resource` is subscribed, read without decoding the rest of it.
    ///
    /// # Errors
    /// When the type URL is not one of this kind, or the body is no protobuf message.
    pub fn name_of(self, resource: &Any) -> Result<String, AnyError> {
        if type_name(&resource.type_url) != type_name(self.type_url()) {
            return Err(AnyError::WrongType {
                expected: type_name(self.type_url()).to_owned(),
                found: resource.type_url.clone(),
            });
        }
        // There is one, and it has no name.
        if self == Self::NameTable {
            return Ok(String::new());
        }
        // Each other resource message has its name in field 1.
        Named::decode(resource.value.as_slice())
            .map(|named| named.name)
            .map_err(|source| AnyError::Malformed { type_url: resource.type_url.clone(), source })
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.short_name())
    }
}

/// Reads the name of any resource from its encoding and skips the rest.
///
/// # Errors
/// When the type URL is no kind of resource known here, or the body is no protobuf message.
pub fn name_of(resource: &Any) -> Result<String, AnyError> {
    ResourceType::from_type_url(&resource.type_url)
        .ok_or_else(|| AnyError::UnknownType { type_url: resource.type_url.clone() })?
        .name_of(resource)
}

/// The one field that every resource message shares.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{NameInfo, NameTable};
    use crate::{
        pack,
        pb::envoy::config::{
            cluster::v3::Cluster,
            core::v3::TypedExtensionConfig,
            endpoint::v3::ClusterLoadAssignment,
            listener::v3::Listener,
            route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost},
        },
        pb::envoy::{
            extensions::transport_sockets::tls::v3::Secret, service::runtime::v3::Runtime,
        },
    };

    #[test]
    fn every_type_url_is_found_again_with_any_prefix() {
        for kind in ResourceType::ALL {
            assert_eq!(ResourceType::from_type_url(kind.type_url()), Some(kind));
            let bare = type_name(kind.type_url());
            assert_eq!(ResourceType::from_type_url(bare), Some(kind));
            assert_eq!(ResourceType::from_type_url(&format!("example.org/{bare}")), Some(kind));
        }
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/nothing"), None);
    }

    #[test]
    fn push_order_is_clusters_endpoints_listeners_routes_secrets() {
        assert!(ResourceType::Cluster < ResourceType::Endpoint);
        assert!(ResourceType::Endpoint < ResourceType::Listener);
        assert!(ResourceType::Listener < ResourceType::Route);
        assert!(ResourceType::Route < ResourceType::Secret);
        assert!(ResourceType::ALL.is_sorted());
    }

    #[test]
    fn names_are_read_from_every_kind() {
        let name = || "n".to_owned();
        let resources = [
            pack(&Cluster { name: name(), ..Default::default() }),
            pack(&ClusterLoadAssignment { cluster_name: name(), ..Default::default() }),
            pack(&Listener { name: name(), ..Default::default() }),
            pack(&ScopedRouteConfiguration { name: name(), ..Default::default() }),
            pack(&RouteConfiguration { name: name(), ..Default::default() }),
            pack(&VirtualHost { name: name(), ..Default::default() }),
            pack(&Secret { name: name(), ..Default::default() }),
            pack(&TypedExtensionConfig { name: name(), ..Default::default() }),
            pack(&Runtime { name: name(), ..Default::default() }),
        ];
        for (kind, resource) in ResourceType::ALL.into_iter().zip(&resources) {
            assert_eq!(kind.name_of(resource).unwrap(), "n");
            assert_eq!(name_of(resource).unwrap(), "n");
        }
        let table = NameTable { table: [(name(), NameInfo::default())].into(), name_info: None };
        assert_eq!(name_of(&pack(&table)).unwrap(), "");
    }

    #[test]
    fn a_resource_of_another_type_is_refused() {
        let error = ResourceType::Cluster.name_of(&pack(&Listener::default())).unwrap_err();
        assert!(error.to_string().contains("envoy.config.cluster.v3.Cluster"), "{error}");
    }
}
