//! Bootstrap files for sidecars and edges: an Envoy v3 bootstrap with the control plane as the one
//! static cluster, and Weft's certificate agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A path that can't stand in a bootstrap file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not UTF-8", .0.display())]
pub struct BootstrapError(PathBuf);

/// What a proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Serves one workload.
    Sidecar,
    /// Serves traffic from outside the mesh.
    Edge,
}

/// What a bootstrap file is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// The workload's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its addresses, which others reach it on.
    pub addresses: Vec<IpAddr>,
    /// Its labels; `app` names the service.
    pub labels: BTreeMap<String, String>,
    /// Region, zone and subzone; empty for unknown.
    pub locality: [String; 3],
    /// Further metadata of the node.
    pub metadata: Map<String, Value>,
    /// What the proxy does.
    pub role: Role,
    /// The DNS domain of the cluster.
    pub cluster_domain: String,
    /// The control plane's host: a name or an IP address.
    pub control_plane: String,
    /// Its port for xDS and certificates over TLS.
    pub control_plane_port: u16,
    /// The name in its certificate.
    pub server_name: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// File with the root certificate (PEM).
    pub root_cert: PathBuf,
    /// File with the workload's token.
    pub token: PathBuf,
    /// Folder for the cache of configuration and certificates.
    pub state_dir: PathBuf,
}

impl Bootstrap {
    /// The file's content.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn to_json(&self) -> Result<Value, BootstrapError> {
        Ok(json!({
            "node": self.node(),
            "admin": { "address": socket_address("127.0.0.1", 15000) },
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds-grpc" } }],
                },
                "lds_config": { "ads": {}, "resource_api_version": "V3" },
                "cds_config": { "ads": {}, "resource_api_version": "V3" },
            },
            "static_resources": { "clusters": [self.control_plane()?] },
            "bootstrap_extensions": [self.certificate_agent()?],
        }))
    }

    fn node(&self) -> Value {
        let Self { name, namespace, labels, .. } = self;
        let (kind, role) = match self.role {
            Role::Sidecar => ("sidecar", "sidecar"),
            Role::Edge => ("router", "edge"),
        };
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let first = addresses.first().map_or("127.0.0.1", String::as_str);
        let app = labels.get("app").unwrap_or(name);
        let mut metadata = self.metadata.clone();
        let own = [
            ("NAME", json!(name)),
            ("NAMESPACE", json!(namespace)),
            ("SERVICE_ACCOUNT", json!(self.service_account)),
            ("INSTANCE_IPS", json!(addresses.join(","))),
            ("LABELS", json!(labels)),
            ("WEFT_ROLE", json!(role)),
        ];
        metadata.extend(own.map(|(key, value)| (key.to_owned(), value)));
        let id =
            format!("{kind}~{first}~{name}.{namespace}~{namespace}.svc.{}", self.cluster_domain);
        let mut node =
            json!({ "id": id, "cluster": format!("{app}.{namespace}"), "metadata": metadata });
        let [region, zone, subzone] = &self.locality;
        if !region.is_empty() {
            node["locality"] = json!({ "region": region, "zone": zone, "sub_zone": subzone });
        }
        node
    }

    fn control_plane(&self) -> Result<Value, BootstrapError> {
        let address = socket_address(&self.control_plane, self.control_plane_port);
        let is_address = self.control_plane.parse::<IpAddr>().is_ok();
        Ok(json!({
            "name": "xds-grpc",
            "type": if is_address { "STATIC" } else { "STRICT_DNS" },
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "xds-grpc",
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": self.server_name,
                    "common_tls_context": {
                        "alpn_protocols": ["h2"],
                        "validation_context": {
                            "trusted_ca": { "filename": text(&self.root_cert)? },
                            "match_typed_subject_alt_names": [
                                { "san_type": "DNS", "matcher": { "exact": self.server_name } },
                            ],
                        },
                    },
                },
            },
        }))
    }

    fn certificate_agent(&self) -> Result<Value, BootstrapError> {
        let host = match self.control_plane.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.control_plane.clone(),
        };
        Ok(json!({
            "name": "weft.certificate_agent",
            "typed_config": {
                "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
                "type_url": "type.googleapis.com/weft.bootstrap.v1.CertificateAgent",
                "value": {
                    "ca_address": format!("{host}:{}", self.control_plane_port),
                    "server_name": self.server_name,
                    "root_cert_file": text(&self.root_cert)?,
                    "token_file": text(&self.token)?,
                    "trust_domain": self.trust_domain,
                    "namespace": self.namespace,
                    "service_account": self.service_account,
                    "state_dir": text(&self.state_dir)?,
                },
            },
        }))
    }
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}

fn text(path: &Path) -> Result<&str, BootstrapError> {
    path.to_str().ok_or_else(|| BootstrapError(path.to_owned()))
}
