use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::ResourceId;

fn policy(created: u64, json: &Value) -> Item<PeerAuthentication> {
    let id: ResourceId = created.to_string().parse().expect("an id");
    let value = Arc::new(PeerAuthentication::from_json(json).expect("a policy"));
    Item { id, value, created, modified: created }
}

fn labels() -> Labels {
    Labels::from([("app".to_owned(), "web".to_owned())])
}

fn effective(policies: &[Item<PeerAuthentication>]) -> EffectiveMtls {
    effective_mtls(policies, "root", "ns", &labels())
}

fn mode(name: &str) -> Value {
    json!({"mode": name})
}

#[test]
fn without_policies_the_mesh_is_permissive() {
    assert_eq!(effective(&[]).for_port(80), MtlsMode::Permissive);
}

#[test]
fn the_nearest_policy_wins_and_unset_inherits() {
    let mesh = policy(1, &json!({"namespace": "root", "mtls": mode("STRICT")}));
    let own = policy(2, &json!({"namespace": "ns", "mtls": mode("DISABLE")}));
    let selector = json!({"matchLabels": {"app": "web"}});
    let workload = policy(
        3,
        &json!({"namespace": "ns", "selector": selector,
        "mtls": mode("UNSET"), "portLevelMtls": {"80": mode("STRICT"), "81": mode("UNSET")}}),
    );
    assert_eq!(effective(std::slice::from_ref(&mesh)).mode, MtlsMode::Strict);
    assert_eq!(effective(&[mesh.clone(), own.clone()]).mode, MtlsMode::Disable);
    let all = effective(&[workload, own, mesh]);
    assert_eq!(all.mode, MtlsMode::Disable);
    assert_eq!((all.for_port(80), all.for_port(81)), (MtlsMode::Strict, MtlsMode::Disable));
}

#[test]
fn the_oldest_of_one_level_holds() {
    let newer = policy(9, &json!({"namespace": "ns", "mtls": mode("DISABLE")}));
    let older = policy(4, &json!({"namespace": "ns", "mtls": mode("STRICT")}));
    assert_eq!(effective(&[newer, older]).mode, MtlsMode::Strict);
}

#[test]
fn other_namespaces_and_selectors_do_not_matter() {
    let other = policy(1, &json!({"namespace": "other", "mtls": mode("STRICT")}));
    let selector = json!({"matchLabels": {"app": "db"}});
    let unmatched =
        policy(2, &json!({"namespace": "ns", "selector": selector, "mtls": mode("STRICT")}));
    let in_root = json!({"matchLabels": {"app": "web"}});
    let root =
        policy(3, &json!({"namespace": "root", "selector": in_root, "mtls": mode("STRICT")}));
    assert_eq!(effective(&[other, unmatched, root]).mode, MtlsMode::Permissive);
}

#[test]
fn ports_without_a_selector_are_refused() {
    let json = json!({"namespace": "ns", "portLevelMtls": {"80": mode("STRICT")}});
    assert!(PeerAuthentication::from_json(&json).is_err());
}

#[test]
fn settings_have_defaults_and_ignore_bookkeeping() {
    let json = json!({"id": "default", "outbound_traffic_policy": "REGISTRY_ONLY"});
    let mesh = MeshConfig::from_json(&json).expect("settings");
    assert_eq!(mesh.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
    assert_eq!(mesh.trust_domain, "cluster.local");
    assert!(MeshConfig::from_json(&json!({"trust_domian": "x"})).is_err());
}
