//! Bootstrap files of sidecars and edges outside Kubernetes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

/// What `weft bootstrap` is told.
#[derive(Debug, Clone, Args)]
pub struct BootstrapOptions {
    /// The workload's name
    #[arg(long)]
    pub name: String,
    /// Its namespace
    #[arg(long, default_value = "default")]
    pub namespace: String,
    /// Its service account
    #[arg(long, default_value = "default")]
    pub service_account: String,
    /// Its address, which others reach it on
    #[arg(long)]
    pub address: Vec<IpAddr>,
    /// A label, as key=value; `app` names the service
    #[arg(long = "label", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// A port that the application listens on, as 8080 or, with its protocol, http:8080
    #[arg(long = "port")]
    pub ports: Vec<Port>,
    /// What the proxy does
    #[arg(long, value_enum, default_value_t = Role::Sidecar)]
    pub role: Role,
    /// The control plane's address
    #[arg(long, default_value = "127.0.0.1")]
    pub control_plane: IpAddr,
    /// The control plane's port for xDS and certificates over TLS
    #[arg(long, default_value_t = 15012)]
    pub control_plane_port: u16,
    /// The name in the control plane's certificate
    #[arg(long, default_value = "weft-control-plane")]
    pub server_name: String,
    /// The mesh's trust domain
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// File with the root certificate (PEM)
    #[arg(long)]
    pub root_cert: PathBuf,
    /// File with the workload's token
    #[arg(long)]
    pub token: PathBuf,
    /// Folder for the cache of configuration and certificates
    #[arg(long)]
    pub state_dir: PathBuf,
}

/// What a proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Serves one workload.
    Sidecar,
    /// Serves traffic from outside the mesh.
    Edge,
}

/// A port of the application. As in Kubernetes, its name begins with its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name; none lets the proxy find out the protocol.
    pub name: Option<String>,
    /// The number.
    pub number: u16,
}

impl Port {
    fn to_json(&self) -> Value {
        match &self.name {
            Some(name) => json!({ "name": name, "containerPort": self.number, "protocol": "TCP" }),
            None => json!({ "containerPort": self.number, "protocol": "TCP" }),
        }
    }
}

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (Some(name.to_owned()), number),
            None => (None, text),
        };
        let number = number.parse().map_err(|_| "a port is written 8080 or http:8080")?;
        Ok(Self { name, number })
    }
}

impl BootstrapOptions {
    /// The bootstrap that these options describe.
    #[must_use]
    pub fn bootstrap(&self) -> weft_pod::Bootstrap {
        let ports: Vec<_> = self.ports.iter().map(Port::to_json).collect();
        let mut metadata = Map::new();
        // A list as text, as Istio's agents send it.
        metadata.insert("POD_PORTS".to_owned(), json!(Value::Array(ports).to_string()));
        weft_pod::Bootstrap {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            addresses: self.address.clone(),
            labels: self.labels.iter().cloned().collect(),
            locality: Default::default(),
            metadata,
            role: match self.role {
                Role::Sidecar => weft_pod::Role::Sidecar,
                Role::Edge => weft_pod::Role::Edge,
            },
            cluster_domain: "cluster.local".to_owned(),
            control_plane: self.control_plane.to_string(),
            control_plane_port: self.control_plane_port,
            server_name: self.server_name.clone(),
            trust_domain: self.trust_domain.clone(),
            root_cert: self.root_cert.clone(),
            token: self.token.clone(),
            state_dir: self.state_dir.clone(),
        }
    }

    /// The bootstrap file's text.
    ///
    /// # Errors
    ///
    /// When a path is not UTF-8.
    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(&self.bootstrap().to_json()?).context("cannot write YAML")
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(role: Role) -> BootstrapOptions {
        BootstrapOptions {
            name: "greeter-1".to_owned(),
            namespace: "demo".to_owned(),
            service_account: "greeter".to_owned(),
            address: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            labels: vec![("app".to_owned(), "greeter".to_owned())],
            ports: vec!["http:8080".parse().unwrap(), "9000".parse().unwrap()],
            role,
            control_plane: "10.0.0.1".parse().unwrap(),
            control_plane_port: 15012,
            server_name: "weft-control-plane".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            root_cert: "/w/root.pem".into(),
            token: "/w/token".into(),
            state_dir: "/w/state".into(),
        }
    }

    #[test]
    fn a_sidecar_tells_what_its_workload_is() {
        let json = options(Role::Sidecar).bootstrap().to_json().unwrap();
        let node = &json["node"];
        assert_eq!(node["id"], "sidecar~10.0.0.2~greeter-1.demo~demo.svc.cluster.local");
        assert_eq!(node["cluster"], "greeter.demo");
        assert_eq!(node["metadata"]["INSTANCE_IPS"], "10.0.0.2,fd00::2");
        let ports = node["metadata"]["POD_PORTS"].as_str().unwrap();
        let ports: Value = serde_json::from_str(ports).unwrap();
        let first = json!({"name": "http", "containerPort": 8080, "protocol": "TCP"});
        assert_eq!(ports, json!([first, {"containerPort": 9000, "protocol": "TCP"}]));
    }

    #[test]
    fn an_edge_is_a_router() {
        let json = options(Role::Edge).bootstrap().to_json().unwrap();
        assert!(json["node"]["id"].as_str().unwrap().starts_with("router~"));
        assert_eq!(json["node"]["metadata"]["WEFT_ROLE"], "edge");
    }

    #[test]
    fn the_text_reads_back_as_the_same_content() {
        let options = options(Role::Sidecar);
        let yaml = options.to_yaml().unwrap();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, options.bootstrap().to_json().unwrap());
    }
}
