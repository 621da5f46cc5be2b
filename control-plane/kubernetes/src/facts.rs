//! What is kept of Kubernetes' objects: little, of many.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use weft_control_model::{EndpointIdentity, Labels, Locality};

/// Namespace and name.
pub(crate) type ObjectName = (String, String);

pub(crate) fn name_of(object: &impl ResourceExt) -> ObjectName {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// The ports of a Service: number, name, and the port of the pods if the number says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    /// Empty in a Service with one port.
    pub(crate) name: String,
}

impl ServiceFacts {
    pub(crate) fn of(service: &Service) -> Option<Self> {
        let ports = service.spec.as_ref()?.ports.iter().flatten();
        let ports = ports.filter(|port| is_tcp(port.protocol.as_deref()));
        let ports = ports.filter_map(|port| {
            let name = port.name.clone().unwrap_or_default();
            Some(ServicePort { number: u16::try_from(port.port).ok()?, name })
        });
        Some(Self { ports: ports.collect() })
    }
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    /// Numbers by the names of the Service's ports.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) pod: Option<String>,
    pub(crate) state: EndpointState,
    pub(crate) node: Option<String>,
    pub(crate) zone: Option<String>,
}

/// Whether an endpoint takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointState {
    Ready,
    /// It ends but answers still: for when nobody else does.
    Terminating,
}

/// The service that a slice belongs to.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<ObjectName> {
    let service = slice.labels().get("kubernetes.io/service-name")?;
    Some((slice.namespace().unwrap_or_default(), service.clone()))
}

impl SliceFacts {
    pub(crate) fn of(slice: &EndpointSlice) -> Option<Self> {
        if slice.address_type == "FQDN" {
            return None;
        }
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter(|port| is_tcp(port.protocol.as_deref())).filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), number))
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            // What is not said counts as ready, and as serving if ready.
            let ready = conditions.ready.unwrap_or(true);
            let serving = conditions.serving.unwrap_or(ready);
            let state = match (ready, serving && conditions.terminating.unwrap_or(false)) {
                (true, _) => EndpointState::Ready,
                (false, true) => EndpointState::Terminating,
                (false, false) => return None,
            };
            let pod =
                endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            Some(SliceEndpoint {
                // All addresses of an endpoint are of one pod; consumers take the first.
                address: endpoint.addresses.first()?.parse().ok()?,
                pod: pod.and_then(|target| target.name.clone()),
                state,
                node: endpoint.node_name.clone(),
                zone: endpoint.zone.clone(),
            })
        });
        Some(Self { ports: ports.collect(), endpoints: endpoints.collect() })
    }
}

/// A pod of the mesh; others speak no mTLS.
pub(crate) fn identity_of(pod: &Pod) -> Option<EndpointIdentity> {
    let injected = pod.annotations().contains_key("weft.dev/status")
        || pod.labels().get("security.istio.io/tlsMode").is_some_and(|mode| mode == "istio");
    if !injected {
        return None;
    }
    let account = pod.spec.as_ref()?.service_account_name.clone();
    let labels: Labels =
        pod.labels().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Some(EndpointIdentity {
        namespace: pod.namespace().unwrap_or_default(),
        service_account: account.unwrap_or_else(|| "default".to_owned()),
        labels,
    })
}

/// Where a node is.
pub(crate) fn locality_of(node: &Node) -> Option<Locality> {
    let label = |names: [&str; 2]| {
        let found = names.into_iter().find_map(|name| node.labels().get(name));
        found.cloned().unwrap_or_default()
    };
    let locality = Locality {
        region: label([
            "topology.kubernetes.io/region",
            "failure-domain.beta.kubernetes.io/region",
        ]),
        zone: label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        subzone: label(["topology.istio.io/subzone", "weft.dev/subzone"]),
    };
    (locality != Locality::default()).then_some(locality)
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

/// A port as people write it: a number, or a name.
pub(crate) fn port_of(text: &str) -> IntOrString {
    text.parse::<i32>().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int)
}
