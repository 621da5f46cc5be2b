//! The whole control plane in this process, with real nodes over xDS.

#[path = "control_plane/access.rs"]
mod access;
#[path = "control_plane/declared.rs"]
mod declared;
#[path = "control_plane/mesh.rs"]
mod mesh;
#[path = "control_plane/program.rs"]
mod program;
#[path = "control_plane/shared_etcd.rs"]
mod shared_etcd;
#[path = "control_plane/support.rs"]
mod support;
