//! What a control plane sends.

use anyhow::{Result, ensure};
use weft_xds_ads::client::DeltaClient;
use weft_xds_ads::{ClientProtocol, Resource, ResourceType, ResourceUpdate, Subscription};
use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster;
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use weft_xds_proto::pb::envoy::service::discovery::v3 as discovery;
use weft_xds_proto::{Any, from_yaml, pack};

use super::support::Configured;
use super::{Work, each};

/// How many there are besides the one that changes.
const RESOURCES: usize = 1_000;

const DYNAMIC: &str = "
node: {id: micro, cluster: micro}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  cds_config: {ads: {}}
static_resources:
  clusters:
  - name: xds
    load_assignment:
      cluster_name: xds
      endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: /run/xds}}}}]}]
";

pub(super) fn ads_delta() -> Result<Work> {
    let mut client = DeltaClient::new(Default::default());
    client.set_subscriptions(vec![(ResourceType::Cluster, Subscription::Wildcard)]);
    client.connected();
    let first = (0..RESOURCES).map(|index| cluster(index, 1)).collect::<Result<Vec<_>>>()?;
    exchange(&mut client, &first, 0);
    let versions = [cluster(RESOURCES / 2, 2)?, cluster(RESOURCES / 2, 3)?];
    let mut nonce = 0;
    each(move || {
        nonce += 1;
        exchange(&mut client, &versions[nonce % 2..=nonce % 2], nonce);
    })
}

/// A response received, accepted and acknowledged.
fn exchange(client: &mut DeltaClient, resources: &[Resource], nonce: usize) {
    let resources = resources.iter().map(|resource| discovery::Resource {
        name: resource.name.clone(),
        version: resource.version.clone(),
        resource: Some(Any::clone(&resource.body)),
        ..Default::default()
    });
    let response = discovery::DeltaDiscoveryResponse {
        type_url: ResourceType::Cluster.type_url().to_owned(),
        nonce: nonce.to_string(),
        resources: resources.collect(),
        ..Default::default()
    };
    let received = client.receive(response).expect("invariant: clusters are subscribed to");
    assert!(!received.update.added.is_empty());
    client.complete(received.pending, Vec::new());
    while client.next_request().is_some() {}
}

pub(super) fn cluster_change() -> Result<Work> {
    let versions = [cluster(RESOURCES / 2, 2)?, cluster(RESOURCES / 2, 3)?];
    apply_in_turn(ResourceType::Cluster, versions)
}

pub(super) fn endpoint_change() -> Result<Work> {
    let versions = [assignment(RESOURCES / 2, 2)?, assignment(RESOURCES / 2, 3)?];
    apply_in_turn(ResourceType::Endpoint, versions)
}

/// Sends one version and the other, so that each is a change, to an engine that has many others.
fn apply_in_turn(kind: ResourceType, versions: [Resource; 2]) -> Result<Work> {
    let mut configured = Configured::from_yaml(DYNAMIC)?;
    let clusters = (0..RESOURCES).map(|index| cluster(index, 1)).collect::<Result<Vec<_>>>()?;
    let assignments =
        (0..RESOURCES).map(|index| assignment(index, 1)).collect::<Result<Vec<_>>>()?;
    for (kind, added) in [(ResourceType::Cluster, clusters), (ResourceType::Endpoint, assignments)]
    {
        let rejected = configured.engine.apply(update(kind, added), configured.now);
        ensure!(rejected.is_empty(), "{rejected:?}");
    }
    ensure!(configured.snapshot().clusters.size() > RESOURCES, "not everything is warm");
    let mut turn = 0;
    each(move || {
        turn += 1;
        let added = vec![versions[turn % 2].clone()];
        let rejected = configured.engine.apply(update(kind, added), configured.now);
        assert!(rejected.is_empty(), "{rejected:?}");
    })
}

fn update(resource_type: ResourceType, added: Vec<Resource>) -> ResourceUpdate {
    ResourceUpdate {
        resource_type,
        version: String::new(),
        added,
        removed: Vec::new(),
        full: false,
    }
}

fn resource(name: String, version: usize, body: Any) -> Resource {
    Resource { name, version: version.to_string(), body: body.into() }
}

fn cluster(index: usize, version: usize) -> Result<Resource> {
    let name = format!("outbound|80||service-{index}.default.svc.cluster.local");
    let config: Cluster = from_yaml(&format!(
        "name: '{name}'
type: EDS
eds_cluster_config: {{eds_config: {{ads: {{}}}}}}
connect_timeout: {version}s
lb_policy: LEAST_REQUEST
circuit_breakers: {{thresholds: [{{max_connections: 1000, max_requests: 1000}}]}}
"
    ))?;
    Ok(resource(name, version, pack(&config)))
}

fn assignment(index: usize, version: usize) -> Result<Resource> {
    let name = format!("outbound|80||service-{index}.default.svc.cluster.local");
    let endpoint = |host: usize| {
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 10.0.{version}.{host}, port_value: 80}}}}}}}}"
        )
    };
    let endpoints: Vec<_> = (0..10).map(endpoint).collect();
    let config: ClusterLoadAssignment = from_yaml(&format!(
        "{{cluster_name: '{name}', endpoints: [{{lb_endpoints: [{}]}}]}}",
        endpoints.join(", ")
    ))?;
    Ok(resource(name, version, pack(&config)))
}
