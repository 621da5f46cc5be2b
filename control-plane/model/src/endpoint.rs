//! What a registry knows about where a service runs.

use std::net::IpAddr;
use std::sync::Arc;

use crate::{Discovery, Labels, Scheme};

/// The namespace of a service that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// One place where a service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is reached.
    pub address: IpAddr,
    /// The port that the application listens on.
    pub port: u16,
    /// Its share of the requests, from 1 on.
    pub weight: u32,
    /// Who it is; `None` for what is not in the mesh and speaks no mTLS.
    pub identity: Option<EndpointIdentity>,
    /// Where it is, if its registry knows.
    pub locality: Option<Locality>,
}

/// A place, from the widest part to the narrowest; unknown parts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// The region.
    pub region: String,
    /// The zone within it.
    pub zone: String,
    /// The part of the zone, such as a rack.
    pub subzone: String,
}

/// The workload behind an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointIdentity {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// The workload's labels, by which policies choose it.
    pub labels: Labels,
}

/// All places where one service runs.
pub type Endpoints = Arc<[Endpoint]>;

/// Registries of endpoints.
pub trait Discover {
    /// The endpoints of a service; empty while there are none. Equal pointers mean that nothing
    /// changed.
    ///
    /// # Errors
    /// The registry is unknown, or the service's name is none.
    fn endpoints(&self, service: &Discovery, scheme: Scheme) -> Result<Endpoints, DiscoverError>;
}

/// A service that can't be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// No registry of this name.
    #[error(
        "discovery_type: there is no registry {0:?}; \"mesh\", \"dns\" and, in a cluster, \"kubernetes\" are known"
    )]
    UnknownRegistry(String),
    /// The name isn't one of this registry's.
    #[error("service_name: {name:?} isn't {expected}")]
    BadName {
        /// The name.
        name: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// An argument that the registry doesn't have.
    #[error("discovery_args.{field}: {reason}")]
    BadArgument {
        /// The argument.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A `service_name` of the mesh: `[namespace/]name[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MeshName {
    /// The namespace, `default` if none is named.
    pub namespace: String,
    /// The service: the label `app` or `service.istio.io/canonical-name` of its workloads.
    pub name: String,
    /// The port of the service or of the application; `None` means the first.
    pub port: Option<u16>,
}

impl MeshName {
    /// Reads a `service_name`.
    ///
    /// # Errors
    /// [`DiscoverError::BadName`].
    pub fn parse(text: &str) -> Result<Self, DiscoverError> {
        let bad = || DiscoverError::BadName {
            name: text.to_owned(),
            expected: "[namespace/]name[:port]",
        };
        let (namespace, rest) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| bad())?)),
            None => (rest, None),
        };
        let fine = |part: &str| !part.is_empty() && !part.contains(['/', ':', ' ']);
        if !fine(namespace) || !fine(name) || port == Some(0) {
            return Err(bad());
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_and_port_may_be_left_out() {
        let name = |namespace: &str, name: &str, port| MeshName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        };
        assert_eq!(MeshName::parse("greeter"), Ok(name("default", "greeter", None)));
        assert_eq!(MeshName::parse("shop/cart:8080"), Ok(name("shop", "cart", Some(8080))));
        for bad in ["", "/a", "a/", "a:", "a:0", "a:x", "a/b/c", "a:1:2"] {
            assert!(MeshName::parse(bad).is_err(), "{bad}");
        }
    }
}
