use super::*;
use crate::pb::envoy::config::{bootstrap::v3::Bootstrap, cluster::v3::Cluster};

#[test]
fn a_bootstrap_in_yaml_is_mapped() {
    let yaml = "
admin:
  address:
    socket_address: { address: 127.0.0.1, port_value: 15000 }
static_resources:
  clusters:
  - &first
    name: a
    connect_timeout: 0.25s
    type: STATIC
  - <<: *first
    name: b
";
    let bootstrap: Bootstrap = from_yaml(yaml).unwrap();
    let clusters = bootstrap.static_resources.unwrap().clusters;
    assert_eq!(clusters[1].name, "b");
    assert_eq!(clusters[0].connect_timeout, clusters[1].connect_timeout);
}

#[test]
fn json_is_read_as_yaml() {
    let cluster: Cluster = from_yaml(r#"{"name": "a", "connectTimeout": "1s"}"#).unwrap();
    assert_eq!(cluster.connect_timeout.unwrap().seconds, 1);
}

#[test]
fn broken_yaml_is_reported_with_its_line() {
    let error = from_yaml::<Cluster>("name: a\ntype: [STATIC\nx: y\n").unwrap_err();
    let YamlError::Syntax(text) = error else { panic!("{error}") };
    assert!(text.contains("line 3") || text.contains("3:"), "{text}");
}

#[test]
fn repeated_keys_are_reported_with_their_line() {
    let error = from_yaml::<Cluster>("name: a\nname: b\n").unwrap_err();
    let YamlError::Syntax(text) = error else { panic!("{error}") };
    assert!(text.contains("line 2") || text.contains("2:"), "{text}");
}

#[test]
fn an_unknown_field_is_reported_with_its_path() {
    let error = from_yaml::<Bootstrap>("admin:\n  adress: {}\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "admin.adress: unknown field of envoy.config.bootstrap.v3.Admin; did you mean \"address\"?"
    );
}

#[test]
fn texts_that_look_like_other_things_stay_texts() {
    let cluster: Cluster = from_yaml("name: on\n").unwrap();
    assert_eq!(cluster.name, "on");
}

#[test]
fn ten_thousand_clusters_are_read() {
    let mut yaml = String::from("static_resources:\n  clusters:\n");
    for index in 0..10_000 {
        yaml.push_str(&format!("  - name: c{index}\n    type: STATIC\n    connect_timeout: 1s\n"));
    }
    let bootstrap: Bootstrap = from_yaml(&yaml).unwrap();
    assert_eq!(bootstrap.static_resources.unwrap().clusters.len(), 10_000);
}
