//! What a node says of itself, in the metadata that Istio's agents and Weft's send.

use std::net::IpAddr;

use serde_json::{Map, Value};
use weft_control_model::{Labels, Role, Workload, WorkloadAddress, WorkloadPort};
use weft_xds_proto::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use weft_xds_proto::struct_to_json;

/// A node whose description can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node {id:?}: {field}: {reason}")]
pub struct NodeError {
    /// The node's id.
    pub id: String,
    /// The field of the node.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The workload that a node describes.
///
/// The id is `<type>~<address>~<name>.<namespace>~<domain>`, as Istio has it, or any other text;
/// the metadata wins over what the id tells.
///
/// # Errors
/// The field that is missing or can't be read.
pub fn workload_of(node: &Node, connected_since: u64) -> Result<Workload, NodeError> {
    let error =
        |field: &'static str, reason: String| NodeError { id: node.id.clone(), field, reason };
    if node.id.is_empty() {
        return Err(error("id", "missing node information".to_owned()));
    }
    let metadata = node.metadata.as_ref().map(struct_to_json).unwrap_or_default();
    let id = NodeId::parse(&node.id);
    let namespace = text(&metadata, "NAMESPACE").or(id.namespace).unwrap_or("default");
    let role = role(&metadata, &id).map_err(|reason| error("metadata.WEFT_ROLE", reason))?;
    let addresses = addresses(&metadata, &id);
    let addresses = addresses.map_err(|reason| error("metadata.INSTANCE_IPS", reason))?;
    let ports = ports(&metadata).map_err(|reason| error("metadata.POD_PORTS", reason))?;
    Ok(Workload {
        id: node.id.clone(),
        namespace: namespace.to_owned(),
        service_account: text(&metadata, "SERVICE_ACCOUNT").unwrap_or("default").to_owned(),
        labels: labels(&metadata),
        addresses,
        ports,
        role,
        connected_since,
        version: version(node),
    })
}

/// The parts of an id as Istio's agents make them.
struct NodeId<'a> {
    kind: &'a str,
    address: Option<&'a str>,
    namespace: Option<&'a str>,
}

impl<'a> NodeId<'a> {
    fn parse(id: &'a str) -> Self {
        let parts: Vec<_> = id.split('~').collect();
        let [kind, address, name, _domain] = parts.as_slice() else {
            return Self { kind: "", address: None, namespace: None };
        };
        let namespace = name.rsplit_once('.').map(|(_, namespace)| namespace);
        Self { kind, address: Some(address), namespace }
    }
}

fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    metadata.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn role(metadata: &Map<String, Value>, id: &NodeId<'_>) -> Result<Role, String> {
    match (text(metadata, "WEFT_ROLE"), id.kind) {
        (Some("edge"), _) | (None, "router") => Ok(Role::Edge),
        (Some("sidecar"), _) | (None, _) => Ok(Role::Sidecar),
        (Some(other), _) => Err(format!("{other:?} is neither \"sidecar\" nor \"edge\"")),
    }
}

fn addresses(
    metadata: &Map<String, Value>,
    id: &NodeId<'_>,
) -> Result<Vec<WorkloadAddress>, String> {
    let listed = text(metadata, "INSTANCE_IPS");
    let texts = listed.or(id.address).into_iter().flat_map(|list| list.split(','));
    let parse = |text: &str| {
        let address = text.trim().parse::<IpAddr>();
        address.map(WorkloadAddress).map_err(|_| format!("{text:?} is no IP address"))
    };
    texts.filter(|text| !text.trim().is_empty()).map(parse).collect()
}

fn labels(metadata: &Map<String, Value>) -> Labels {
    let labels = metadata.get("LABELS").and_then(Value::as_object);
    let pairs = labels.into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A list of containers' ports, or the same as text.
fn ports(metadata: &Map<String, Value>) -> Result<Vec<WorkloadPort>, String> {
    let list = match metadata.get("POD_PORTS") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?
        }
        Some(list) => list.clone(),
    };
    let list = list.as_array().ok_or("is no list of ports")?;
    // Only TCP is intercepted.
    let carried = |port: &&Value| !matches!(port["protocol"].as_str(), Some("UDP" | "SCTP"));
    list.iter().filter(carried).map(port).collect()
}

fn port(port: &Value) -> Result<WorkloadPort, String> {
    let number = port["containerPort"].as_u64().and_then(|number| u16::try_from(number).ok());
    let number = number
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("{port}: no containerPort from 1 to 65535"))?;
    // Istio's rule: the name is `<protocol>` or `<protocol>-<anything>`.
    let name = port["name"].as_str().unwrap_or_default();
    let by_name = name.split('-').next().unwrap_or_default();
    let protocol = port["appProtocol"].as_str().unwrap_or(by_name);
    let protocol = if name.starts_with("grpc-web") { "grpc-web" } else { protocol };
    Ok(WorkloadPort { port: number, target_port: number, protocol: protocol.to_owned() })
}

fn version(node: &Node) -> String {
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => {
            format!("{} {version}", node.user_agent_name)
        }
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.as_ref();
            let version = version.map(|version| {
                format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
            });
            format!("{} {}", node.user_agent_name, version.unwrap_or_default())
        }
        None => node.user_agent_name.clone(),
    }
    .trim()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_xds_proto::json_to_struct;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "shorter calls")]
    fn described(id: &str, metadata: Value) -> Result<Workload, NodeError> {
        let metadata = metadata.as_object().map(json_to_struct);
        workload_of(&Node { id: id.to_owned(), metadata, ..Default::default() }, 7)
    }

    #[test]
    fn the_metadata_describes_the_workload() {
        let workload = described(
            "sidecar~10.0.0.2~greeter-1.demo~demo.svc.cluster.local",
            json!({
                "NAMESPACE": "demo",
                "SERVICE_ACCOUNT": "greeter",
                "INSTANCE_IPS": "10.0.0.2,fd00::2",
                "LABELS": {"app": "greeter", "version": "v1"},
                "POD_PORTS": "[{\"name\":\"http-web\",\"containerPort\":8080,\"protocol\":\"TCP\"},\
                              {\"containerPort\":9090},{\"containerPort\":53,\"protocol\":\"UDP\"}]",
            }),
        )
        .expect("a workload");
        assert_eq!((workload.addresses.len(), workload.role), (2, Role::Sidecar));
        let ports: Vec<_> =
            workload.ports.iter().map(|port| (port.port, port.protocol.as_str())).collect();
        assert_eq!(ports, [(8080, "http"), (9090, "")]);
    }

    #[test]
    fn the_id_tells_what_the_metadata_does_not() {
        let workload = described("router~10.0.0.3~edge.web~web.svc.cluster.local", json!({}));
        let workload = workload.expect("a workload");
        assert_eq!((workload.namespace.as_str(), workload.role), ("web", Role::Edge));
        assert_eq!(workload.addresses, [WorkloadAddress([10, 0, 0, 3].into())]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (metadata, field) in [
            (json!({"INSTANCE_IPS": "here"}), "metadata.INSTANCE_IPS"),
            (json!({"POD_PORTS": "{"}), "metadata.POD_PORTS"),
            (json!({"POD_PORTS": [{"containerPort": 0}]}), "metadata.POD_PORTS"),
            (json!({"WEFT_ROLE": "cook"}), "metadata.WEFT_ROLE"),
        ] {
            assert_eq!(described("n", metadata).expect_err("an error").field, field);
        }
        assert_eq!(described("", json!({})).expect_err("an error").field, "id");
    }
}
