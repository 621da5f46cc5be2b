//! Clusters, listeners and secrets in files, and servers of secrets.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use weft_model::{Slot, TransportSocket};
use weft_tls::ServerTls;
use weft_xds_client::{Resource, ResourceType, ResourceUpdate};

use crate::secrets::pems;
use crate::support::{Bench, body};

/// Replaces a file as a careful writer does.
fn replace(folder: &TempDir, name: &str, text: &str) {
    let (fresh, target) = (folder.path().join("fresh"), folder.path().join(name));
    fs::write(&fresh, text).expect("it is written");
    fs::rename(fresh, target).expect("it is renamed");
}

fn response(kind: &str, resources: &[&str]) -> String {
    let items =
        resources.iter().map(|one| format!("- {{ '@type': type.googleapis.com/{kind}, {one} }}\n"));
    format!("version_info: '1'\nresources:\n{}", items.collect::<String>())
}

fn clusters(resources: &[&str]) -> String {
    response("envoy.config.cluster.v3.Cluster", resources)
}

fn listeners(resources: &[&str]) -> String {
    response("envoy.config.listener.v3.Listener", resources)
}

const A: &str = "name: a, load_assignment: { cluster_name: a }";
const B: &str = "name: b, load_assignment: { cluster_name: b }";

fn listener(cluster: &str) -> String {
    format!(
        "name: l, address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}, filter_chains: [{{ filters: [{{ name: tcp, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: l, cluster: {cluster} }} }}] }}]"
    )
}

fn bootstrap(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "
node: {{ id: test, cluster: test }}
dynamic_resources:
  cds_config: {{ path_config_source: {{ path: {folder}/cds.yaml, watched_directory: {{ path: {folder} }} }} }}
  lds_config: {{ path_config_source: {{ path: {folder}/lds.yaml }} }}
"
    )
}

fn names(bench: &Bench) -> (Vec<String>, Vec<String>) {
    let snapshot = bench.snapshot();
    let mut clusters: Vec<_> = snapshot.clusters.keys().map(ToString::to_string).collect();
    clusters.sort();
    (clusters, snapshot.listeners.keys().map(ToString::to_string).collect())
}

#[test]
fn clusters_and_listeners_follow_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    replace(&folder, "cds.yaml", &clusters(&[A, B]));
    replace(&folder, "lds.yaml", &listeners(&[&listener("a")]));
    let mut bench = Bench::new(&bootstrap(folder.path()));
    assert_eq!(names(&bench), (vec!["a".into(), "b".into()], vec!["l".into()]));
    assert!(bench.engine.readiness().ready);
    let version = bench.snapshot().version;
    bench.engine.reload_files(bench.now);
    assert_eq!(bench.snapshot().version, version, "nothing changed");
    replace(&folder, "cds.yaml", &clusters(&[A]));
    replace(&folder, "lds.yaml", &listeners(&[]));
    bench.engine.reload_files(bench.now);
    assert_eq!(names(&bench), (vec!["a".into()], vec![]));
}

#[test]
fn what_is_bad_in_a_file_is_refused_alone_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    replace(&folder, "cds.yaml", &clusters(&[A]));
    replace(&folder, "lds.yaml", &listeners(&[&listener("a")]));
    let mut bench = Bench::new(&bootstrap(folder.path()));
    replace(&folder, "cds.yaml", "resources: [");
    bench.engine.reload_files(bench.now);
    assert_eq!(names(&bench).0, ["a"]);
    replace(&folder, "cds.yaml", &clusters(&["name: a, lb_policy: 77", B]));
    fs::remove_file(folder.path().join("lds.yaml")).expect("it was there");
    bench.engine.reload_files(bench.now);
    assert_eq!(names(&bench), (vec!["a".into(), "b".into()], vec!["l".into()]));
    assert!(bench.engine.dump().to_string().contains("lb_policy"), "the refusal is shown");
}

#[test]
fn a_file_that_is_not_there_at_the_start_is_an_error_of_its_field() {
    let folder = tempfile::tempdir().expect("a folder");
    replace(&folder, "cds.yaml", &clusters(&[]));
    let error = Bench::try_new(&bootstrap(folder.path())).err().expect("lds.yaml is missing");
    assert_eq!(error.field, "dynamic_resources.lds_config");
    assert!(error.reason.contains("lds.yaml"), "{}", error.reason);
}

/// A listener whose certificate comes from `config`, a `SdsSecretConfig`.
fn secured(config: &str) -> String {
    format!(
        "
name: edge
address: {{ socket_address: {{ address: 0.0.0.0, port_value: 9443 }} }}
filter_chains:
- transport_socket:
    name: tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context: {{ tls_certificate_sds_secret_configs: [{config}] }}
  filters:
  - name: tcp
    typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: edge, cluster: web }}
"
    )
}

fn slot(bench: &Bench) -> Slot<ServerTls> {
    let snapshot = bench.snapshot();
    let chain = snapshot.listeners["edge"].chains.iter().next().expect("a chain");
    let TransportSocket::Tls(slot) = &chain.transport else { panic!("it is TLS") };
    slot.clone()
}

fn filled(bench: &Bench) -> Arc<ServerTls> {
    slot(bench).get().expect("it is filled")
}

#[test]
fn certificates_in_files_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display();
    let put = |account: &str| {
        let (chain, key, _) = pems(account);
        replace(&folder, "chain.pem", &chain);
        replace(&folder, "key.pem", &key);
    };
    put("web");
    let listed = format!(
        "resources: [{{ '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: own, tls_certificate: {{ certificate_chain: {{ filename: {path}/chain.pem }}, private_key: {{ filename: {path}/key.pem }} }} }}]"
    );
    replace(&folder, "sds.yaml", &listed);
    let configs = [
        format!(
            "{{ name: own, sds_config: {{ path_config_source: {{ path: {path}/sds.yaml }} }} }}"
        ),
        format!(
            "{{ name: 'file-cert:{path}/chain.pem~{path}/key.pem', sds_config: {{ ads: {{}} }} }}"
        ),
    ];
    for config in configs {
        let mut bench = Bench::dynamic();
        bench.accept(ResourceType::Listener, &[&secured(&config)]);
        let first = filled(&bench);
        bench.engine.reload_files(bench.now);
        assert!(Arc::ptr_eq(&first, &filled(&bench)), "{config}: nothing changed");
        put("other");
        bench.engine.reload_files(bench.now);
        let second = filled(&bench);
        assert!(!Arc::ptr_eq(&first, &second), "{config}");
        replace(&folder, "key.pem", "no key");
        bench.engine.reload_files(bench.now);
        assert!(Arc::ptr_eq(&second, &filled(&bench)), "{config}: the last good one serves");
        put("third");
        bench.engine.reload_files(bench.now);
        assert!(!Arc::ptr_eq(&second, &filled(&bench)), "{config}");
    }
}

#[test]
fn secrets_come_from_a_server_of_their_own() {
    let config = "{ name: own, sds_config: { api_config_source: { api_type: DELTA_GRPC, grpc_services: [{ envoy_grpc: { cluster_name: sds-grpc } }] } } }";
    let mut bench = Bench::dynamic();
    let rejection = &bench.send(ResourceType::Listener, &[&secured(config)])[0];
    assert!(rejection.field.ends_with("grpc_services[0].envoy_grpc.cluster_name"), "{rejection:?}");
    let with = crate::support::DYNAMIC.replace(
        "clusters:",
        "clusters:\n  - { name: sds-grpc, load_assignment: { cluster_name: sds-grpc } }",
    );
    let mut bench = Bench::new(&with);
    bench.accept(ResourceType::Cluster, &[]);
    bench.accept(ResourceType::Listener, &[&secured(config)]);
    assert!(bench.snapshot().listeners.is_empty(), "it waits");
    assert!(bench.wanted(ResourceType::Secret).is_empty(), "the control plane is not asked");
    let servers = bench.engine.secret_servers();
    let (server, names) = servers.first_key_value().expect("a server");
    assert_eq!((server.cluster(), server.is_incremental()), ("sds-grpc", true));
    assert!(names.contains("own"));
    let (chain, key, _) = pems("web");
    let secret = serde_json::json!({ "name": "own", "tls_certificate": {
        "certificate_chain": { "inline_string": chain },
        "private_key": { "inline_string": key },
    }});
    let (name, body) = body(ResourceType::Secret, &secret.to_string());
    let update = ResourceUpdate {
        resource_type: ResourceType::Secret,
        version: "1".to_owned(),
        added: vec![Resource { name, version: String::new(), body: Arc::new(body) }],
        removed: Vec::new(),
        full: false,
    };
    assert!(bench.engine.apply_secrets(server, &update, bench.now).is_empty());
    assert!(slot(&bench).is_filled());
    bench.remove(ResourceType::Listener, &["edge"]);
    assert!(bench.engine.secret_servers().is_empty(), "nobody needs it any more");
}
