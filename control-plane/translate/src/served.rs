//! What is served where, and under which names.

use std::collections::BTreeSet;

use weft_control_model::{Resources, Scheme};

use crate::problem::{Problem, Unsupported};
use crate::targets::{RouteContext, Target, of_service, service_key};

/// The label that names the ports on which a route's or service's hosts are called in the mesh,
/// separated by commas.
const PORTS_LABEL: &str = "weft.dev/ports";

/// Where routes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// By sidecars, to the workloads behind them.
    Mesh,
    /// By edges, to the world.
    Edge { over_tls: bool },
}

/// A host of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshHost {
    /// The ports on which it is called.
    pub ports: BTreeSet<u16>,
    /// Those of them that carry TCP connections instead of HTTP.
    pub tcp: BTreeSet<u16>,
}

/// A service of TCP connections.
pub(crate) struct TcpService {
    pub(crate) host: String,
    pub(crate) ports: Vec<u16>,
    pub(crate) target: Target,
}

/// Services whose upstream is one of TCP connections.
pub(crate) fn tcp_services(resources: &Resources, problems: &mut Vec<Problem>) -> Vec<TcpService> {
    let mut services = Vec::new();
    for service in resources.services.iter() {
        let Ok(Some(target)) = of_service(resources, service) else { continue };
        if !is_tcp(&target) {
            continue;
        }
        let key = service_key(service);
        let context = RouteContext::of_service(resources, service);
        let ports = match ports(&context, &[]) {
            Ok(ports) if !ports.is_empty() => ports,
            Ok(_) => {
                let reason = format!("a TCP service needs the label {PORTS_LABEL}: \"5432\"");
                problems.push(Unsupported::new("labels", reason).of(&key));
                continue;
            }
            Err(error) => {
                problems.push(error.of(&key));
                continue;
            }
        };
        for host in &service.value.hosts {
            if host.contains('*') {
                let reason = format!("{host}: TCP connections carry no name; name the hosts");
                problems.push(Unsupported::new("hosts", reason).of(&key));
                continue;
            }
            let (host, ports) = (host.clone(), ports.clone());
            services.push(TcpService { host, ports, target: target.clone() });
        }
    }
    services
}

pub(crate) fn is_tcp(target: &Target) -> bool {
    matches!(target.upstream.scheme, Scheme::Tcp | Scheme::Tls)
}

/// The ports on which the route's hosts are called inside the mesh.
pub(crate) fn ports(context: &RouteContext<'_>, default: &[u16]) -> Result<Vec<u16>, Unsupported> {
    let Some(text) = context.label(PORTS_LABEL) else {
        return Ok(default.to_vec());
    };
    let port = |text: &str| text.trim().parse().ok().filter(|&port: &u16| port > 0);
    text.split(',').map(port).collect::<Option<_>>().ok_or_else(|| {
        let reason = format!("{PORTS_LABEL}: {text:?} is no list of ports such as \"80,8080\"");
        Unsupported::new("labels", reason)
    })
}
