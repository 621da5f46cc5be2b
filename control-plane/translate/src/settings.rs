//! What the translation is told beside the resources.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

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
    /// The ports on which edges serve stream routes.
    pub stream_ports: Vec<StreamPort>,
    /// The file to which every proxy writes its access log, such as `/dev/stdout`.
    pub access_log: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service_ports: vec![80],
            edge_http_port: 9080,
            edge_https_port: 9443,
            stream_ports: Vec::new(),
            access_log: None,
        }
    }
}

/// A port for connections that are no HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPort {
    /// Its number.
    pub port: u16,
    /// Whether edges end TLS there, with the certificates of `ssls`.
    pub tls: bool,
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
    /// The addresses of [`Translator::hosts`](crate::Translator::hosts).
    pub addresses: &'a Arc<VirtualAddresses>,
}
