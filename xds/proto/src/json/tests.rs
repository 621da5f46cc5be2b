use serde_json::json;

use super::*;
use crate::{
    Any, pack,
    pb::envoy::{
        config::{
            bootstrap::v3::Bootstrap, cluster::v3::Cluster, listener::v3::Listener,
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::network::http_connection_manager::v3::HttpConnectionManager,
            transport_sockets::tls::v3::Secret,
        },
    },
    typed_struct::TypedStruct,
    unpack,
};

const HCM: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

fn bootstrap(filter: &Json) -> Json {
    json!({
        "node": {"id": "sidecar~10.0.0.1~a.b~b.svc.cluster.local", "metadata": {"LABELS": {"app": "a"}}},
        "static_resources": {"listeners": [{
            "name": "one",
            "address": {"socketAddress": {"address": "127.0.0.1", "port_value": 8080}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": filter}]}]
        }]}
    })
}

fn path_of(json: Json) -> (String, String) {
    let error = from_json::<Bootstrap>(json).unwrap_err();
    (error.path, error.reason)
}

#[test]
fn a_bootstrap_with_nested_any_is_mapped() {
    let json = bootstrap(&json!({
        "@type": HCM,
        "stat_prefix": "x",
        "request_timeout": "1.5s",
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"]}]}
    }));
    let bootstrap: Bootstrap = from_json(json).unwrap();
    let listener = &bootstrap.static_resources.unwrap().listeners[0];
    let config = listener.filter_chains[0].filters[0].config_type.clone().unwrap();
    let crate::pb::envoy::config::listener::v3::filter::ConfigType::TypedConfig(any) = config
    else {
        panic!("no typed_config")
    };
    let manager: HttpConnectionManager = unpack(&any).unwrap();
    assert_eq!(manager.stat_prefix, "x");
    assert_eq!(manager.request_timeout.unwrap().nanos, 500_000_000);
}

const FILTER: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

#[test]
fn an_unknown_field_inside_an_any_is_named_by_its_path() {
    let (path, reason) = path_of(bootstrap(&json!({"@type": HCM, "stat_prefx": "x"})));
    assert_eq!(path, format!("{FILTER}.stat_prefx"));
    assert!(reason.starts_with("unknown field of envoy.extensions.filters.network"), "{reason}");
    assert!(reason.ends_with("did you mean \"stat_prefix\"?"), "{reason}");
}

#[test]
fn a_value_of_the_wrong_kind_inside_an_any_is_named_by_its_path() {
    for type_first in [true, false] {
        let filter = if type_first {
            json!({"@type": HCM, "max_request_headers_kb": "many"})
        } else {
            json!({"max_request_headers_kb": "many", "@type": HCM})
        };
        let (path, _) = path_of(bootstrap(&filter));
        assert_eq!(path, format!("{FILTER}.max_request_headers_kb"));
    }
}

#[test]
fn unknown_and_missing_types_are_named_by_their_path() {
    let (path, reason) = path_of(bootstrap(&json!({"@type": "type.googleapis.com/no.Such"})));
    assert_eq!(path, format!("{FILTER}.@type"));
    assert_eq!(reason, "unknown message \"no.Such\"");
    let (path, reason) = path_of(bootstrap(&json!({"stat_prefix": "x"})));
    assert_eq!(path, FILTER);
    assert!(reason.contains("@type"), "{reason}");
}

#[test]
fn wrong_enums_durations_and_twice_given_choices_are_named_by_their_path() {
    let cluster = |json| from_json::<Cluster>(json).unwrap_err();
    assert_eq!(cluster(json!({"type": "STATICK"})).path, "type");
    assert_eq!(cluster(json!({"connect_timeout": "soon"})).path, "connect_timeout");
    let twice = json!({"ring_hash_lb_config": {}, "maglev_lb_config": {}});
    assert!(cluster(twice).reason.contains("lb_config"));
    assert_eq!(cluster(json!([])).path, "");
}

#[test]
fn a_typed_struct_keeps_its_fields_unchanged() {
    let json = bootstrap(&json!({
        "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
        "type_url": "type.googleapis.com/weft.Plugin",
        "value": {"anything": {"goes": [1, true]}}
    }));
    let bootstrap: Bootstrap = from_json(json.clone()).unwrap();
    assert_eq!(
        to_json(&bootstrap)["static_resources"]["listeners"][0]["filter_chains"],
        json!([{"filters": [{"name": "hcm", "typed_config": {
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": "type.googleapis.com/weft.Plugin",
            "value": {"anything": {"goes": [1.0, true]}}}}]}])
    );
    let fields = json!({"a": 1}).as_object().unwrap().clone();
    let packed = TypedStruct::pack("weft.Plugin", &fields);
    assert_eq!(any_to_json(&packed, Sensitive::Redact)["value"], json!({"a": 1.0}));
}

#[test]
fn written_json_reads_back_as_the_same_message() {
    let json = json!({
        "name": "r",
        "virtual_hosts": [{
            "name": "v", "domains": ["*"],
            "routes": [{
                "match": {"safe_regex": {"regex": "/a.*"}, "runtime_fraction": {"default_value": {"numerator": 5}}},
                "route": {"cluster": "c", "timeout": "0.250s", "retry_policy": {"num_retries": 3}},
                "typed_per_filter_config": {"f": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x"}}
            }]
        }]
    });
    let routes: RouteConfiguration = from_json(json).unwrap();
    let written = to_json(&routes);
    assert_eq!(from_json::<RouteConfiguration>(written.clone()).unwrap(), routes);
    assert_eq!(written["virtual_hosts"][0]["routes"][0]["route"]["timeout"], "0.250s");
}

#[test]
fn an_unknown_any_is_written_as_base64_and_never_fails() {
    let any = Any { type_url: "type.googleapis.com/no.Such".into(), value: vec![1, 2, 3] };
    let json = any_to_json(&any, Sensitive::Keep);
    assert_eq!(json, json!({"@type": "type.googleapis.com/no.Such", "value": "AQID"}));
    let broken = Any { value: vec![0xff], ..pack(&Listener::default()) };
    assert_eq!(any_to_json(&broken, Sensitive::Keep)["value"], "/w==");
}

#[test]
fn private_keys_are_redacted_and_certificates_are_not() {
    let secret: Secret = from_json(json!({
        "name": "s",
        "tls_certificate": {
            "certificate_chain": {"inline_string": "public"},
            "private_key": {"inline_string": "hidden"}
        }
    }))
    .unwrap();
    let written = any_to_json(&pack(&secret), Sensitive::Redact);
    assert_eq!(written["tls_certificate"]["private_key"]["inline_string"], "[redacted]");
    assert_eq!(written["tls_certificate"]["certificate_chain"]["inline_string"], "public");
    assert!(to_json(&secret).to_string().contains("hidden"));
}

#[test]
fn every_generated_message_has_a_descriptor() {
    for name in [TypedStruct::XDS, TypedStruct::UDPA, "xds.type.matcher.v3.Matcher"] {
        assert!(descriptors::message(name).is_some(), "{name}");
    }
    assert!(descriptors::message("envoy.admin.v3.ConfigDump").is_some());
}
