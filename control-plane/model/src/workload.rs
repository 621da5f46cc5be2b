//! Workloads that registered by connecting, and what the connected nodes
//! made of what they were sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Labels;

/// A workload of the mesh, as its node described itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The node's id, unique in the mesh.
    pub id: String,
    /// The namespace.
    pub namespace: String,
    /// The service account, the last part of the identity.
    pub service_account: String,
    /// Labels; `app` or `service` name the service.
    pub labels: Labels,
    /// Where it is reached; all addresses are one workload.
    pub addresses: Vec<WorkloadAddress>,
    /// The ports that its application listens on.
    pub ports: Vec<WorkloadPort>,
    /// What it does.
    pub role: Role,
    /// When its node connected, in Unix seconds.
    pub connected_since: u64,
    /// The version of its node's software, as it says.
    pub version: String,
}

/// An address of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadAddress(pub IpAddr);

/// A port of a workload's application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadPort {
    /// The port of a service on which this one is reached.
    pub port: u16,
    /// The port that the application listens on.
    pub target_port: u16,
    /// `http`, `http2`, `grpc`, `tcp`, …
    pub protocol: String,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves one workload.
    Sidecar,
    /// Serves north-south traffic.
    Edge,
}

/// A connected node, with what each type accepted and rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's id.
    pub id: String,
    /// What it does.
    pub role: Role,
    /// When it connected, in Unix seconds.
    pub connected_since: u64,
    /// By the name of the type, such as `cluster`.
    pub types: BTreeMap<String, TypeStatus>,
}

/// What a node made of the resources of one type.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TypeStatus {
    /// The version that was sent last.
    pub sent: Option<String>,
    /// The version that was accepted last.
    pub accepted: Option<String>,
    /// The last rejection, until a later version is accepted.
    pub rejected: Option<Rejection>,
}

/// A rejection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The version that was rejected.
    pub version: String,
    /// The node's reason.
    pub reason: String,
    /// When, in Unix seconds.
    pub at: u64,
}

/// A host name of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshService {
    /// The name that applications call.
    pub host: String,
    /// The address that the name resolves to inside the mesh.
    pub virtual_address: Option<IpAddr>,
    /// The ports on which it is called.
    pub ports: Vec<u16>,
    /// How many workloads stand behind it.
    pub workloads: usize,
}
