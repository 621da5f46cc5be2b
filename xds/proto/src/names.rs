//! The table of names that proxies answer DNS queries from (`istio.networking.nds.v1`).
//!
//! Written by hand: two messages are not worth a build step. The ports are Weft's own and unknown to
//! others, who skip them.

use std::collections::BTreeMap;

use prost::{Message, Name};

const PACKAGE: &str = "istio.networking.nds.v1";

/// `istio.networking.nds.v1.NameTable`
#[derive(Clone, PartialEq, Message)]
pub struct NameTable {
    /// Hosts by name.
    #[prost(btree_map = "string, message", tag = "1")]
    pub table: BTreeMap<String, NameInfo>,
    /// The host that the resource itself is named after.
    #[prost(message, optional, tag = "2")]
    pub name_info: Option<NameInfo>,
}

/// What a name stands for.
#[derive(Clone, PartialEq, Message)]
pub struct NameInfo {
    /// Its IP addresses.
    #[prost(string, repeated, tag = "1")]
    pub ips: Vec<String>,
    /// The registry that knows it, such as `Kubernetes`.
    #[prost(string, tag = "2")]
    pub registry: String,
    /// The name of the service in Kubernetes.
    #[prost(string, tag = "3")]
    pub shortname: String,
    /// The namespace of the service in Kubernetes.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// The ports on which it is served.
    #[prost(message, repeated, tag = "1001")]
    pub ports: Vec<NamePort>,
}

/// A port of a name (Weft's own).
#[derive(Clone, PartialEq, Message)]
pub struct NamePort {
    /// What is spoken, as SRV queries name it: `_http._tcp`.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

impl Name for NameTable {
    const NAME: &'static str = "NameTable";
    const PACKAGE: &'static str = PACKAGE;
}
