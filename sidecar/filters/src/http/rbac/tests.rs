use http::Request;
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::rbac::v3::{
    Rbac as PbRbac, RbacPerRoute,
};

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

fn filter(fixture: &Fixture, yaml: &str) -> std::sync::Arc<dyn HttpFilter> {
    let config: PbRbac = weft_xds_proto::from_yaml(yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => filter,
        other => panic!("{other:?}"),
    }
}

fn head(path: &str) -> RequestHead {
    Request::builder().uri(path).header("x-s", "1").body(()).expect("a request").into_parts().0
}

const RULES: &str = "
rules_stat_prefix: rp_
shadow_rules_stat_prefix: sp_
track_per_rule_stats: true
rules:
  action: ALLOW
  policies:
    \"b pol\":
      permissions: [{ url_path: { path: { prefix: /ok } } }]
      principals: [{ remote_ip: { address_prefix: 192.0.2.0, prefix_len: 24 } }]
shadow_rules:
  action: DENY
  policies:
    \"s p\":
      permissions: [{ any: true }]
      principals: [{ header: { name: x-s, present_match: true } }]
";

#[test]
fn what_no_policy_allows_is_denied_as_envoy_denies_it() {
    let fixture = Fixture::default();
    let filter = filter(&fixture, RULES);
    let mut cx = stream(Protocol::Http11);
    let Flow::Reply(reply) = filter.request(&mut cx, &mut head("/no"), None) else {
        panic!("it is denied")
    };
    assert_eq!(
        (reply.status, &reply.body[..]),
        (StatusCode::FORBIDDEN, &b"RBAC: access denied"[..])
    );
    assert_eq!(reply.details, "rbac_access_denied_matched_policy[none]");
    let said = cx.annotations.as_ref().and_then(|all| all.namespace(NAMESPACE));
    let said = serde_json::to_string(said.expect("it said something")).expect("JSON");
    let wanted = r#"{"rp_enforced_engine_result":"denied","sp_shadow_effective_policy_id":"s p","sp_shadow_engine_result":"denied"}"#;
    assert_eq!(said, wanted);
}

#[test]
fn decisions_are_counted_under_envoys_names() {
    let fixture = Fixture::default();
    let filter = filter(&fixture, RULES);
    for path in ["/ok", "/ok/2", "/no"] {
        let mut cx = stream(Protocol::Http11);
        drop(filter.request(&mut cx, &mut head(path), None));
    }
    let wanted = [
        ("http.in.rbac.rp_.allowed", 2),
        ("http.in.rbac.rp_.denied", 1),
        ("http.in.rbac.rp_.policy.b pol.allowed", 2),
        ("http.in.rbac.sp_.policy.s p.shadow_denied", 3),
        ("http.in.rbac.sp_.shadow_allowed", 0),
        ("http.in.rbac.sp_.shadow_denied", 3),
    ];
    assert_eq!(fixture.counters(), wanted.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn a_routes_rules_take_the_place_of_the_filters() {
    let fixture = Fixture::default();
    let filter = filter(&fixture, RULES);
    let route = |yaml: &str| {
        let route: RbacPerRoute = weft_xds_proto::from_yaml(yaml).expect("it is a route's");
        config::per_route(&pack(&route), &mut Fixture::default().cx()).expect("it is right")
    };
    let off = route("{}");
    let mut cx = stream(Protocol::Http11);
    assert!(matches!(filter.request(&mut cx, &mut head("/no"), Some(&off)), Flow::Continue));
    assert!(cx.annotations.is_none());
    let log = route(
        "rbac: { rules: { action: LOG, policies: { p: {
          permissions: [{ any: true }], principals: [{ any: true }] } } } }",
    );
    assert!(matches!(filter.request(&mut cx, &mut head("/no"), Some(&log)), Flow::Continue));
    let hint =
        cx.annotations.as_ref().and_then(|all| all.find("envoy.common", &["access_log_hint"]));
    assert_eq!(hint, Some(&serde_json::Value::Bool(true)));
}
