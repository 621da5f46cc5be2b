//! What a node says of itself, in the metadata that Istio's agents and Weft's send.

use std::net::IpAddr;

use serde_json::{Map, Value};
use weft_control_model::{Labels, Role, Workload, WorkloadAddress, WorkloadPort};
use weft_xds_proto::pb::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use weft_xds_proto::struct_to_json;

use crate::node::ServiceDiscovery;

/// How Weft's own data plane calls itself.
const USER_AGENT: &str = "weft-sidecar";
/// How a node wants to learn of services.
const DISCOVERY: &str = "weft.dev/discovery";
/// The hosts that a node wants from the start.
const SERVICES: &str = "weft.dev/services";

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

/// How a node learns of the mesh's services: as its metadata or its annotations say under
/// `weft.dev/discovery` (`on-demand`, `all`); else on demand if it is Weft's own, unless `whole`.
/// Whoever speaks the state-of-the-world variant is sent everything. `weft.dev/services` names
/// hosts that are sent from the start, separated by commas.
///
/// # Errors
/// The field that can't be read.
pub fn discovery_of(
    node: &Node,
    incremental: bool,
    whole: bool,
) -> Result<ServiceDiscovery, NodeError> {
    let metadata = node.metadata.as_ref().map(struct_to_json).unwrap_or_default();
    let annotations = metadata.get("ANNOTATIONS").and_then(Value::as_object);
    let said =
        |key: &str| text(&metadata, key).or_else(|| annotations.and_then(|map| text(map, key)));
    let own = node.user_agent_name == USER_AGENT;
    let on_demand = match said(DISCOVERY) {
        Some("on-demand") => true,
        Some("all") => false,
        None => own && !whole,
        Some(other) => {
            let reason = format!("{other:?} is neither \"on-demand\" nor \"all\"");
            let field = "metadata.weft.dev/discovery";
            return Err(NodeError { id: node.id.clone(), field, reason });
        }
    };
    if !(on_demand && incremental) {
        return Ok(ServiceDiscovery::Everything);
    }
    let hosts = said(SERVICES).into_iter().flat_map(|hosts| hosts.split(','));
    let mut hosts: Vec<_> =
        hosts.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
    hosts.sort();
    hosts.dedup();
    Ok(ServiceDiscovery::OnDemand(hosts))
}

/// Whether a node answers DNS queries of its application, and wants the mesh's names for it
/// (`DNS_CAPTURE`, as Istio's agents say it).
#[must_use]
pub fn answers_dns(node: &Node) -> bool {
    let metadata = node.metadata.as_ref().map(struct_to_json).unwrap_or_default();
    text(&metadata, "DNS_CAPTURE") == Some("true")
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

    fn discovery(
        agent: &str,
        metadata: &Value,
        whole: bool,
    ) -> Result<ServiceDiscovery, NodeError> {
        let metadata = metadata.as_object().map(json_to_struct);
        let (id, user_agent_name) = ("n".to_owned(), agent.to_owned());
        let node = Node { id, metadata, user_agent_name, ..Default::default() };
        let found = discovery_of(&node, true, whole);
        let everything = ServiceDiscovery::Everything;
        assert!(found.is_err() || discovery_of(&node, false, whole) == Ok(everything));
        found
    }

    #[test]
    fn weft_s_own_ask_for_services_unless_somebody_says_otherwise() {
        let on_demand = |hosts: &[&str]| {
            ServiceDiscovery::OnDemand(hosts.iter().map(ToString::to_string).collect())
        };
        let all = ServiceDiscovery::Everything;
        let said = |what: &str| json!({ "weft.dev/discovery": what });
        let noted = |what: &str| json!({ "ANNOTATIONS": { "weft.dev/discovery": what } });
        for (agent, metadata, whole, expected) in [
            (USER_AGENT, json!({}), false, on_demand(&[])),
            (USER_AGENT, json!({}), true, all.clone()),
            (USER_AGENT, said("all"), false, all.clone()),
            (USER_AGENT, noted("all"), false, all.clone()),
            (USER_AGENT, noted("on-demand"), true, on_demand(&[])),
            ("envoy", json!({}), false, all.clone()),
            ("envoy", said("on-demand"), false, on_demand(&[])),
            (USER_AGENT, json!({ "weft.dev/services": "b, a,,a" }), false, on_demand(&["a", "b"])),
        ] {
            assert_eq!(discovery(agent, &metadata, whole), Ok(expected), "{metadata}");
        }
        let error = discovery(USER_AGENT, &said("some"), false).expect_err("no such way");
        assert_eq!(error.field, "metadata.weft.dev/discovery");
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
