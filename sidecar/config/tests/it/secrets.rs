//! Certificates in, TLS configurations out.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use weft_config::AgentCertificates;
use weft_model::{Slot, Terminal, TransportSocket};
use weft_tls::{CertifiedChain, ServerTls, TrustBundle};
use weft_xds_client::ResourceType;

use crate::istio::{CLUSTER, ENDPOINTS, VIRTUAL_INBOUND};
use crate::support::{Bench, DYNAMIC};

/// The bootstrap of a sidecar whose certificate comes from an agent.
pub(crate) fn agent_bootstrap() -> String {
    format!(
        "{DYNAMIC}
bootstrap_extensions:
- name: agent
  typed_config:
    '@type': type.googleapis.com/xds.type.v3.TypedStruct
    type_url: type.googleapis.com/weft.bootstrap.v1.CertificateAgent
    value:
      ca_address: 127.0.0.1:15012
      root_cert_file: /run/root.pem
      token_file: /run/token
      trust_domain: cluster.local
      namespace: default
      service_account: web
      ttl: 3600s
"
    )
}

/// Chain, key and roots of a workload, PEM.
pub(crate) fn pems(account: &str) -> (String, String, String) {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().expect("a key");
    let root_pem = root.self_signed(&root_key).expect("a root").pem();
    let issuer = Issuer::new(root, root_key);
    let mut leaf = CertificateParams::default();
    let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
    leaf.subject_alt_names = vec![SanType::URI(id.try_into().expect("an identity"))];
    let key = KeyPair::generate().expect("a key");
    let chain = leaf.signed_by(&key, &issuer).expect("a leaf").pem();
    (chain, key.serialize_pem(), root_pem)
}

/// What the agent gives.
pub(crate) fn certificates(account: &str) -> AgentCertificates {
    let (chain, key, roots) = pems(account);
    AgentCertificates {
        chain: CertifiedChain::from_pem(chain.as_bytes(), key.as_bytes()).expect("a chain"),
        roots: TrustBundle::from_pem(roots.as_bytes()).expect("roots"),
    }
}

fn slots(bench: &Bench, listener: &str) -> Vec<Slot<ServerTls>> {
    let snapshot = bench.snapshot();
    let chains = snapshot.listeners[listener].chains.iter();
    chains
        .filter_map(|chain| match &chain.transport {
            TransportSocket::Tls(slot) => Some(slot.clone()),
            TransportSocket::Raw => None,
        })
        .collect()
}

#[test]
fn a_rotated_certificate_touches_no_listener_and_no_cluster() {
    let mut bench = Bench::new(&agent_bootstrap());
    bench.accept(ResourceType::Cluster, &[CLUSTER]);
    bench.accept(ResourceType::Endpoint, &[ENDPOINTS]);
    bench.accept(ResourceType::Listener, &[VIRTUAL_INBOUND]);
    assert!(bench.snapshot().listeners.is_empty(), "no certificate, no listener");
    assert!(!bench.snapshot().clusters.contains_key("outbound|80||web.default.svc.cluster.local"));
    let put = |bench: &mut Bench, account| {
        let given = bench.engine.set_agent_certificates(certificates(account), bench.now);
        given.expect("the certificates are right");
    };
    put(&mut bench, "web");
    let version = bench.snapshot().version;
    let listener = Arc::clone(&bench.snapshot().listeners["virtualInbound"]);
    let before: Vec<_> = slots(&bench, "virtualInbound").iter().filter_map(Slot::get).collect();
    assert_eq!(before.len(), 2);
    put(&mut bench, "web");
    assert_eq!(bench.snapshot().version, version, "nothing was published");
    assert!(Arc::ptr_eq(&listener, &bench.snapshot().listeners["virtualInbound"]));
    for (before, after) in before.iter().zip(slots(&bench, "virtualInbound")) {
        assert!(!Arc::ptr_eq(before, &after.get().expect("it is filled")));
    }
    assert!(bench.wanted(ResourceType::Secret).is_empty(), "the control plane is not asked");
}

const EDGE: &str = "
name: edge
address: { socket_address: { address: 0.0.0.0, port_value: 9443 } }
filter_chains:
- transport_socket:
    name: tls
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context:
        tls_certificate_sds_secret_configs: [{ name: 'kubernetes://edge', sds_config: { ads: {} } }]
  filters:
  - name: tcp
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: edge
      cluster: web
";

fn secret(name: &str) -> String {
    let (chain, key, _) = pems("edge");
    let json = serde_json::json!({ "name": name, "tls_certificate": {
        "certificate_chain": { "inline_string": chain },
        "private_key": { "inline_string": key },
    }});
    json.to_string()
}

#[test]
fn a_secret_of_the_control_plane_is_asked_for_and_hidden_in_the_dump() {
    let mut bench = Bench::dynamic();
    bench.accept(ResourceType::Listener, &[EDGE]);
    assert_eq!(bench.wanted(ResourceType::Secret), ["kubernetes://edge"]);
    bench.accept(ResourceType::Secret, &[&secret("kubernetes://edge")]);
    assert!(bench.snapshot().listeners.contains_key("edge"));
    let dump = bench.engine.dump().to_string();
    assert!(dump.contains("kubernetes://edge") && dump.contains("[redacted]"));
    assert!(!dump.contains("PRIVATE KEY"), "no key in the dump");

    let before = slots(&bench, "edge")[0].get();
    let wrong = bench.send(
        ResourceType::Secret,
        &["{ name: 'kubernetes://edge', tls_certificate: { certificate_chain: { inline_string: x }, private_key: { inline_string: y } } }"],
    );
    assert_eq!(wrong[0].field, "tls_certificate");
    assert!(wrong[0].reason.contains("certificate chain"), "{}", wrong[0].reason);
    let after = slots(&bench, "edge")[0].get();
    assert!(Arc::ptr_eq(&before.expect("filled"), &after.expect("still filled")));

    bench.remove(ResourceType::Listener, &["edge"]);
    assert!(bench.wanted(ResourceType::Secret).is_empty());
}

#[test]
fn certificates_are_read_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key, roots) = pems("web");
    for (name, text) in [("chain.pem", &chain), ("key.pem", &key), ("roots.pem", &roots)] {
        std::fs::write(folder.path().join(name), text).expect("it is written");
    }
    let path = folder.path().display();
    std::fs::write(
        folder.path().join("sds.yaml"),
        format!(
            "resources:\n- '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n  name: roots\n  validation_context: {{ trusted_ca: {{ filename: {path}/roots.pem }} }}\n"
        ),
    )
    .expect("it is written");
    let context = format!(
        "
      common_tls_context:
        tls_certificates:
        - {{ certificate_chain: {{ filename: {path}/chain.pem }}, private_key: {{ filename: {path}/key.pem }} }}
        validation_context_sds_secret_config:
          name: roots
          sds_config: {{ path_config_source: {{ path: {path}/sds.yaml }} }}
      require_client_certificate: true
"
    );
    let (before, after) = EDGE.split_once("      common_tls_context:").expect("it has one");
    let rest = after.split_once("  filters:").expect("it has filters").1;
    let yaml = format!("{before}{}\n  filters:{rest}", context.trim_start_matches('\n'));
    let mut bench = Bench::dynamic();
    bench.accept(ResourceType::Listener, &[&yaml]);
    let snapshot = bench.snapshot();
    let chain = snapshot.listeners["edge"].chains.iter().next().expect("there is a chain");
    assert!(matches!(&chain.transport, TransportSocket::Tls(slot) if slot.is_filled()));
    assert!(matches!(chain.terminal, Terminal::Tcp(_)));

    let missing = yaml.replace("chain.pem", "gone.pem");
    let rejection = &bench.send(ResourceType::Listener, &[&missing])[0];
    let place = "filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates[0].certificate_chain.filename";
    assert_eq!(rejection.field, place);
    assert!(bench.snapshot().listeners.contains_key("edge"), "the former version serves");
}
