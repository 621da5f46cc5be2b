//! What the translation is told beside the resources.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_control_model::{Discover, Resources};

/// Settings of the control plane that shape what nodes are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The ports on which hosts of the mesh are called over HTTP, unless their label
    /// `weft.dev/ports` says otherwise.
    pub service_ports: Vec<u16>,
    /// The port on which edges serve HTTP.
    pub edge_http_port: u16,
    /// The port on which edges serve HTTPS; also where `http_to_https` leads.
    pub edge_https_port: u16,
    /// The file to which every proxy writes its access log, such as `/dev/stdout`.
    pub access_log: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service_ports: vec![80],
            edge_http_port: 9080,
            edge_https_port: 9443,
            access_log: None,
        }
    }
}

/// The virtual addresses of the mesh's hosts, by host.
pub type VirtualAddresses = BTreeMap<String, IpAddr>;

/// Everything that a translation reads.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The configuration.
    pub resources: &'a Resources,
    /// Where services run.
    pub registry: &'a dyn Discover,
    /// The addresses of [`mesh_hosts`](crate::mesh_hosts).
    pub addresses: &'a VirtualAddresses,
}
