//! Load balancing: older fields and typed policies come to the same.

use std::time::Duration;

use weft_model::{
    BalancingOptions, Cluster as Compiled, LoadBalancing, RetryBudget, SlowStart, SubsetFallback,
};
use weft_xds_client::ResourceType::{Cluster, Endpoint};

use crate::support::Bench;

fn compiled(fields: &str) -> std::sync::Arc<Compiled> {
    let mut bench = Bench::dynamic();
    bench.accept(Cluster, &[&format!("{{ name: a, {fields} }}")]);
    std::sync::Arc::clone(&bench.snapshot().clusters["a"].config())
}

fn typed(name: &str, fields: &str) -> String {
    format!(
        "load_balancing_policy: {{ policies: [{{ typed_extension_config: {{ name: x, typed_config: {{
            '@type': type.googleapis.com/envoy.extensions.load_balancing_policies.{name}{fields} }} }} }}] }}"
    )
}

#[test]
fn slow_start_is_read_from_both() {
    let slow = "slow_start_config: { slow_start_window: 60s, aggression: { default_value: 2 } }";
    let expected =
        Some(SlowStart { window: Duration::from_secs(60), aggression: 2.0, min_weight: 0.1 });
    let older = compiled(&format!("round_robin_lb_config: {{ {slow} }}"));
    assert_eq!(older.balancing.slow_start, expected);
    let newer = compiled(&typed("least_request.v3.LeastRequest", &format!(", {slow}")));
    assert_eq!(newer.balancing.slow_start, expected);
    assert_eq!(newer.load_balancing, LoadBalancing::LeastRequest { choices: 2, bias: 1.0 });
}

#[test]
fn consistent_hashing_is_read_from_both() {
    let expected = BalancingOptions {
        hash_hostname: true,
        hash_balance: Some(125),
        ..BalancingOptions::default()
    };
    let hashing = "consistent_hashing_lb_config: { use_hostname_for_hashing: true, hash_balance_factor: 125 }";
    let older = compiled(&format!("lb_policy: MAGLEV, common_lb_config: {{ {hashing} }}"));
    assert_eq!(older.balancing, expected);
    let newer = compiled(&typed("maglev.v3.Maglev", &format!(", {hashing}")));
    assert_eq!((&newer.balancing, &newer.load_balancing), (&expected, &older.load_balancing));
    let murmur =
        compiled("lb_policy: RING_HASH, ring_hash_lb_config: { hash_function: MURMUR_HASH_2 }");
    assert!(murmur.balancing.murmur);
}

#[test]
fn localities_are_weighted_by_either_name() {
    assert!(
        compiled("common_lb_config: { locality_weighted_lb_config: {} }")
            .balancing
            .locality_weighted
    );
    let inner = typed("round_robin.v3.RoundRobin", "");
    let inner = inner.replace("load_balancing_policy", "endpoint_picking_policy");
    let wrr = compiled(&typed("wrr_locality.v3.WrrLocality", &format!(", {inner}")));
    assert!(wrr.balancing.locality_weighted);
    assert_eq!(wrr.load_balancing, LoadBalancing::RoundRobin);
}

#[test]
fn an_unknown_policy_is_refused_by_name() {
    let mut bench = Bench::dynamic();
    let policy = typed("client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin", "");
    let rejections = bench.send(Cluster, &[&format!("{{ name: a, {policy} }}")]);
    assert_eq!(rejections[0].field, "load_balancing_policy.policies");
}

#[test]
fn subsets_are_read_with_their_fallbacks() {
    let cluster = compiled(
        "lb_subset_config: { fallback_policy: DEFAULT_SUBSET, default_subset: { version: '1' },
           subset_selectors: [{ keys: [version, stage], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [version] }] }",
    );
    let subsets = cluster.balancing.subsets.as_ref().unwrap();
    assert_eq!(subsets.fallback, SubsetFallback::Default);
    assert_eq!(subsets.default["version"], "\"1\"");
    assert_eq!(subsets.selectors[0].keys, ["stage", "version"]);
    let keys = SubsetFallback::Keys(vec!["version".to_owned()]);
    assert_eq!(subsets.selectors[0].fallback, Some(keys));
}

#[test]
fn assignments_carry_weights_labels_and_what_is_dropped() {
    let mut bench = Bench::dynamic();
    bench.accept(
        Cluster,
        &["{ name: a, type: EDS, eds_cluster_config: { eds_config: { ads: {} } } }"],
    );
    bench.accept(
        Endpoint,
        &["{ cluster_name: a, policy: { drop_overloads: [{ category: x, drop_percentage: { numerator: 5 } }] },
             endpoints: [{ locality: { zone: z }, load_balancing_weight: 7, lb_endpoints: [{
               endpoint: { address: { socket_address: { address: 10.0.0.1, port_value: 80 } } },
               metadata: { filter_metadata: { envoy.lb: { canary: true, version: '1' } } } }] }] }"],
    );
    let snapshot = bench.snapshot();
    let endpoints = snapshot.clusters["a"].endpoints();
    let drop = endpoints.drop.unwrap();
    assert_eq!((drop.numerator, drop.denominator), (5, 100));
    let level = &endpoints.priorities[0];
    let (locality, weight) = level.weights.iter().next().unwrap();
    assert_eq!((locality.zone.as_str(), *weight), ("z", 7));
    assert!(level.endpoints[0].is_canary());
    assert_eq!(level.endpoints[0].labels.as_ref().unwrap()["version"], "\"1\"");
}

#[test]
fn a_retry_budget_takes_the_place_of_a_number() {
    let budget = |fields: &str| {
        let breakers = format!("circuit_breakers: {{ thresholds: [{{ {fields} }}] }}");
        compiled(&breakers).breakers.default.retry_budget
    };
    assert_eq!(budget("max_retries: 5"), None);
    assert_eq!(budget("retry_budget: {}"), Some(RetryBudget { part: 2_000, least: 3 }));
    let own = "retry_budget: { budget_percent: { value: 12.5 }, min_retry_concurrency: 7 }";
    assert_eq!(budget(own), Some(RetryBudget { part: 1_250, least: 7 }));
}
