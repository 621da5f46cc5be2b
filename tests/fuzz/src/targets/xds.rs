//! Configuration: any bytes as the message of a resource, or as YAML that becomes one.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use weft_config::{BootstrapConfig, Engine};
use weft_model::SnapshotPublisher;
use weft_telemetry::Registry;
use weft_xds_client::{Resource, ResourceType, ResourceUpdate};
use weft_xds_proto::pb::envoy::config::cluster::v3::Cluster;
use weft_xds_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use weft_xds_proto::pb::envoy::config::listener::v3::Listener;
use weft_xds_proto::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use weft_xds_proto::{Any, Message, Name, from_yaml, pack};

use super::certificates::pair;
use crate::Target;

const WORDS: &[&str] = &[
    "name: ",
    "'@type': ",
    "type.googleapis.com/",
    "seconds: ",
    "prefix: ",
    "safe_regex: { regex: ",
    "runtime_fraction: ",
    "weighted_clusters: ",
    "address: ",
    "port_value: ",
    "{}",
    "[]",
    "null",
    "0.5s",
    "-1s",
    "&a ",
    "*a",
    "<<: ",
    "\n  ",
    "\n- ",
    "%REQ(:path)%",
    "%START_TIME(%s)%",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    "(((((",
    "a{1000}{1000}",
    "value: 4294967295",
    "numerator: 200",
];

macro_rules! target {
    ($name:literal, $run:ident, $seeds:ident) => {
        Target { name: $name, run: $run, seeds: $seeds, words: WORDS, quick: 150 }
    };
}

pub(super) const LISTENER: Target = target!("xds_listener", listener, listeners);
pub(super) const ROUTE: Target = target!("xds_route", route, routes);
pub(super) const VIRTUAL_HOST: Target = target!("xds_virtual_host", virtual_host, virtual_hosts);
pub(super) const CLUSTER: Target = target!("xds_cluster", cluster, clusters);
pub(super) const ENDPOINT: Target = target!("xds_endpoint", endpoint, endpoints);
pub(super) const SECRET: Target = target!("xds_secret", secret, secrets);
pub(super) const BOOTSTRAP: Target = target!("bootstrap", bootstrap, bootstraps);

const LISTENER_YAML: &str = include_str!("xds/listener.yaml");
const ROUTE_YAML: &str = include_str!("xds/route.yaml");
const CLUSTER_YAML: &str = include_str!("xds/cluster.yaml");
const ENDPOINT_YAML: &str = include_str!("xds/endpoint.yaml");
const BOOTSTRAP_YAML: &str = include_str!("xds/bootstrap.yaml");

fn listener(input: &[u8]) {
    send::<Listener>(ResourceType::Listener, input);
}

fn route(input: &[u8]) {
    send::<RouteConfiguration>(ResourceType::Route, input);
}

fn virtual_host(input: &[u8]) {
    send::<VirtualHost>(ResourceType::VirtualHost, input);
}

fn cluster(input: &[u8]) {
    send::<Cluster>(ResourceType::Cluster, input);
}

fn endpoint(input: &[u8]) {
    send::<ClusterLoadAssignment>(ResourceType::Endpoint, input);
}

fn secret(input: &[u8]) {
    send::<Secret>(ResourceType::Secret, input);
}

fn bootstrap(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(config) = BootstrapConfig::parse(Path::new("fuzz.yaml"), text) {
        let publisher = SnapshotPublisher::new();
        if let Ok(engine) = Engine::new(config, Registry::new(), publisher, Instant::now()) {
            let _ = (engine.dump(), engine.readiness());
        }
    }
}

/// The message: written in YAML if the input is text that can be read so, else its bytes.
fn message<M: Message + Name + Default>(input: &[u8]) -> Any {
    let text = std::str::from_utf8(input).ok().filter(|text| !text.contains('\0'));
    match text.map(from_yaml::<M>) {
        Some(Ok(message)) => pack(&message),
        _ => Any { type_url: M::type_url(), value: input.to_vec() },
    }
}

fn send<M: Message + Name + Default>(kind: ResourceType, input: &[u8]) {
    let mut engine = engine();
    let now = Instant::now();
    let name = |any: &Any| weft_xds_proto::name_of(any).unwrap_or_default();
    let any = message::<M>(input);
    let names = [name(&any), "fuzz".to_owned()];
    for name in names {
        let _ = engine.apply(update(kind, vec![resource(&name, any.clone())]), now);
    }
    let _ = (engine.dump(), engine.subscriptions(), engine.readiness());
    engine.tick(now + Duration::from_secs(60));
    let _ = engine.apply(update(kind, Vec::new()), now);
    let _ = engine.dump();
}

/// An engine in which a route table, endpoints and a secret named `fuzz` are wanted.
fn engine() -> Engine {
    static BOOTSTRAP: OnceLock<BootstrapConfig> = OnceLock::new();
    let config = BOOTSTRAP.get_or_init(|| {
        let config = BootstrapConfig::parse(Path::new("fuzz.yaml"), BOOTSTRAP_YAML);
        config.unwrap_or_else(|error| panic!("{error}"))
    });
    let now = Instant::now();
    let engine = Engine::new(config.clone(), Registry::new(), SnapshotPublisher::new(), now);
    let mut engine = engine.unwrap_or_else(|error| panic!("{error}"));
    let known = [
        (ResourceType::Cluster, known::<Cluster>(CLUSTER_YAML)),
        (ResourceType::Listener, known::<Listener>(LISTENER_YAML)),
    ];
    for (kind, any) in known {
        let rejected = engine.apply(update(kind, vec![resource("fuzz", any)]), now);
        assert!(rejected.is_empty(), "{rejected:?}");
    }
    engine
}

fn known<M: Message + Name + Default>(yaml: &str) -> Any {
    pack(&from_yaml::<M>(yaml).unwrap_or_else(|error| panic!("{error}")))
}

fn resource(name: &str, body: Any) -> Resource {
    Resource { name: name.to_owned(), version: String::new(), body: body.into() }
}

fn update(resource_type: ResourceType, added: Vec<Resource>) -> ResourceUpdate {
    let version = "1".to_owned();
    ResourceUpdate { resource_type, version, added, removed: Vec::new(), full: false }
}

/// A resource in both forms.
fn both<M: Message + Name + Default>(yaml: &str) -> Vec<Vec<u8>> {
    vec![yaml.as_bytes().to_vec(), known::<M>(yaml).value]
}

fn listeners() -> Vec<Vec<u8>> {
    both::<Listener>(LISTENER_YAML)
}

fn routes() -> Vec<Vec<u8>> {
    both::<RouteConfiguration>(ROUTE_YAML)
}

fn virtual_hosts() -> Vec<Vec<u8>> {
    let yaml = "{ name: fuzz/a, domains: [a, '*.b'], routes: [{ match: { prefix: / }, route: { cluster: fuzz } }] }";
    both::<VirtualHost>(yaml)
}

fn clusters() -> Vec<Vec<u8>> {
    both::<Cluster>(CLUSTER_YAML)
}

fn endpoints() -> Vec<Vec<u8>> {
    both::<ClusterLoadAssignment>(ENDPOINT_YAML)
}

fn secrets() -> Vec<Vec<u8>> {
    let indented = |pem: &str| pem.replace('\n', "\n      ");
    let (chain, key) = (indented(&pair().certificate), indented(&pair().key));
    let certificate = format!(
        "name: fuzz\ntls_certificate:\n  certificate_chain:\n    inline_string: |\n      {chain}\n  private_key:\n    inline_string: |\n      {key}\n"
    );
    let context = format!(
        "name: fuzz\nvalidation_context:\n  trusted_ca:\n    inline_string: |\n      {chain}\n"
    );
    [both::<Secret>(&certificate), both::<Secret>(&context)].concat()
}

fn bootstraps() -> Vec<Vec<u8>> {
    vec![BOOTSTRAP_YAML.as_bytes().to_vec(), include_bytes!("proxy.yaml").to_vec()]
}
