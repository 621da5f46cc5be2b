use std::sync::Arc;

use http::Request;
use weft_filter_api::{PeerFacts, TlsFacts};
use weft_xds_proto::pb::envoy::config::rbac::v3::Rbac;

use super::*;
use crate::testing::connection;
use crate::view::request_view;

fn compile(permission: &str, principal: &str) -> Result<Rules, String> {
    let yaml = format!(
        "{{ policies: {{ p: {{ permissions: [{permission}], principals: [{principal}] }} }} }}"
    );
    let config: Rbac = weft_xds_proto::from_yaml(&yaml).expect("they are rules");
    config::rules(&config).map_err(|error| error.to_string())
}

fn workload() -> ConnectionFacts {
    let peer = PeerFacts {
        uri_sans: vec!["spiffe://td/ns/shop/sa/cart".into()],
        subject: "O=x".into(),
        ..PeerFacts::default()
    };
    let tls = TlsFacts { peer: Some(peer), ..TlsFacts::default() };
    ConnectionFacts {
        tls: Some(Arc::new(tls)),
        server_name: Some("a.example".into()),
        ..connection()
    }
}

fn annotations() -> Annotations {
    let mut all = Annotations::default();
    let claims = serde_json::json!({ "iss": "me", "groups": ["a", "b"], "n": 5 });
    all.set("envoy.filters.http.jwt_authn", "payload", claims);
    all.set_state("io.istio.peer_principal", "spiffe://td/ns/shop/sa/cart");
    all
}

fn judge(rules: &Rules) -> bool {
    let request = Request::builder().method("POST").uri("/a/b?x").header("host", "Shop.example");
    let head = request.header("x-n", "7").body(()).expect("a request").into_parts().0;
    let (connection, annotations, view) = (workload(), annotations(), request_view(&head));
    rules
        .judge(&Subject {
            connection: &connection,
            remote: "203.0.113.9:1".parse().expect("an address"),
            request: Some(&view),
            annotations: Some(&annotations),
        })
        .allowed
}

#[test]
fn permissions_ask_for_what_is_done() {
    let claim = |rest: &str| {
        format!(
            "{{ metadata: {{ filter: envoy.filters.http.jwt_authn, path: [{{ key: payload }}, {rest} }} }}"
        )
    };
    let table = [
        ("{ any: true }".to_owned(), true),
        ("{ url_path: { path: { exact: /a/b } } }".into(), true),
        ("{ url_path: { path: { exact: '/a/b?x' } } }".into(), false),
        ("{ uri_template: { name: t, typed_config: { '@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/a/{x}' } } }".into(), true),
        ("{ header: { name: ':method', string_match: { exact: POST } } }".into(), true),
        ("{ header: { name: ':authority', string_match: { exact: shop.example, ignore_case: true } } }".into(), true),
        ("{ header: { name: x-n, range_match: { start: 1, end: 7 } } }".into(), false),
        ("{ destination_ip: { address_prefix: 192.0.2.2, prefix_len: 32 } }".into(), true),
        ("{ destination_port: 80 }".into(), true),
        ("{ destination_port_range: { start: 70, end: 80 } }".into(), false),
        ("{ requested_server_name: { suffix: .example } }".into(), true),
        ("{ not_rule: { any: true } }".into(), false),
        ("{ and_rules: { rules: [{ any: true }, { destination_port: 81 }] } }".into(), false),
        ("{ or_rules: { rules: [{ destination_port: 81 }, { any: true }] } }".into(), true),
        (claim("{ key: iss }], value: { string_match: { exact: me } }"), true),
        (claim("{ key: iss }], value: { string_match: { exact: me } }, invert: true"), false),
        (claim("{ key: no }], value: { present_match: false }"), true),
        (claim("{ key: n }], value: { double_match: { range: { start: 5, end: 6 } } }"), true),
        (claim("{ key: groups }], value: { list_match: { one_of: { string_match: { exact: b } } } }"), true),
        (claim("{ key: groups }], value: { or_match: { value_matchers: [{ bool_match: true }, { null_match: {} }] } }"), false),
    ];
    for (permission, wanted) in table {
        let rules = compile(&permission, "{ any: true }").expect("it is right");
        assert_eq!(judge(&rules), wanted, "{permission}");
    }
}

#[test]
fn principals_ask_for_who_does_it() {
    let table = [
        ("{ authenticated: {} }", true),
        ("{ authenticated: { principal_name: { exact: spiffe://td/ns/shop/sa/cart } } }", true),
        (
            "{ authenticated: { principal_name: { safe_regex: { regex: '.*/ns/other/.*' } } } }",
            false,
        ),
        ("{ authenticated: { principal_name: { exact: O=x } } }", true),
        ("{ source_ip: { address_prefix: 192.0.2.1, prefix_len: 32 } }", true),
        ("{ direct_remote_ip: { address_prefix: 203.0.113.0, prefix_len: 24 } }", false),
        ("{ remote_ip: { address_prefix: 203.0.113.0, prefix_len: 24 } }", true),
        ("{ header: { name: x-n, present_match: true } }", true),
        ("{ url_path: { path: { prefix: /a } } }", true),
        (
            "{ filter_state: { key: io.istio.peer_principal, string_match: { prefix: spiffe } } }",
            true,
        ),
        ("{ filter_state: { key: other, string_match: { prefix: spiffe } } }", false),
        ("{ not_id: { any: true } }", false),
        ("{ and_ids: { ids: [{ any: true }, { authenticated: {} }] } }", true),
        ("{ or_ids: { ids: [{ not_id: { any: true } }] } }", false),
    ];
    for (principal, wanted) in table {
        let rules = compile("{ any: true }", principal).expect("it is right");
        assert_eq!(judge(&rules), wanted, "{principal}");
    }
}

#[test]
fn what_cannot_be_judged_is_refused_by_name() {
    let error = compile("{ destination_port: 70000 }", "{ any: true }").expect_err("it is wrong");
    assert_eq!(error, "policies[p].permissions[0].destination_port: has to be below 65536");
    let error = compile("{ any: true }", "{ or_ids: { ids: [] } }").expect_err("it is wrong");
    assert_eq!(error, "policies[p].principals[0].or_ids.ids: is required");
    let yaml = "{ policies: { p: { permissions: [{ any: true }], principals: [{ any: true }],
        condition: { const_expr: { bool_value: true } } } } }";
    let config: Rbac = weft_xds_proto::from_yaml(yaml).expect("they are rules");
    let error = config::rules(&config).expect_err("it is not supported").to_string();
    assert_eq!(error, "policies[p].condition: is not supported yet; leave it out");
}
