use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{EmbeddedStore, FileStore};

fn nothing(_: &str) -> Option<String> {
    None
}

fn yaml(text: &str) -> Result<Declared, DeclaredError> {
    Declared::parse(text, Format::Yaml, &|name| (name == "PORT").then(|| "8080".to_owned()))
}

fn keys(declared: &Declared) -> Vec<String> {
    declared.resources.keys().map(ToString::to_string).collect()
}

fn embedded(folder: &tempfile::TempDir, name: &str) -> EmbeddedStore {
    EmbeddedStore::open(&folder.path().join(name)).expect("a store")
}

#[test]
fn ids_are_those_of_apisix() {
    let declared = yaml(
        "routes:\n  - uri: /a\n    upstream: {nodes: {\"127.0.0.1:${{PORT}}\": 1}}\n  - id: 7\n    \
         uri: \"${{PATH:=/b}}\"\nconsumers:\n  - username: jack\n  - id: jack/credentials/c1\n    \
         plugins: {key-auth: {key: k}}\nsecrets:\n  - id: vault/1\n    uri: http://v\n    \
         prefix: p\n    token: t\nmesh: {trust_domain: td}\nplugins: [{name: x}]\n\
         routes_conf_version: 3\n#END\n",
    );
    let declared = declared.expect("complete");
    assert_eq!(declared.problems(), [] as [&str; 0]);
    let expected = [
        "/apisix/routes/7",
        "/apisix/routes/arr_1",
        "/apisix/consumers/jack",
        "/apisix/consumers/jack/credentials/c1",
        "/apisix/secrets/vault/1",
        "/weft/mesh/default",
    ];
    assert_eq!(keys(&declared), expected);
    let value = |key: &str| &declared.resources[&ResourceKey::parse(key).expect("a key")];
    assert_eq!(value("/apisix/routes/7"), &json!({"id": 7, "uri": "/b"}));
    let nodes = &value("/apisix/routes/arr_1")["upstream"]["nodes"];
    assert_eq!(
        (nodes, &value("/apisix/routes/arr_1")["id"]),
        (&json!({"127.0.0.1:8080": 1}), &json!("arr_1"))
    );
    assert_eq!(value("/apisix/consumers/jack"), &json!({"username": "jack"}));
    assert_eq!(value("/apisix/consumers/jack/credentials/c1")["id"], "c1");
    assert_eq!(value("/apisix/secrets/vault/1")["id"], "vault/1");
}

#[test]
fn a_file_that_is_incomplete_or_no_yaml_says_where() {
    for (text, part) in [
        ("routes: []\n", "#END"),
        ("routes:\n  - uri: [\n#END\n", "line"),
        ("a: 1\nb: ${{NONE}}\n#END\n", "line 2: the environment has no NONE"),
    ] {
        let error = yaml(text).expect_err(part);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(yaml("#END").expect("empty").is_empty());
    let error = Declared::parse("{\"routes\": [}", Format::Json, &nothing).expect_err("no JSON");
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn a_wrong_item_is_left_out_with_line_and_field() {
    let text = "routes:\n  - {id: 1, uri: /a}\n  - {id: 2, uri: 5}\n  - {id: 1, uri: /c}\n  - {id: a b}\nrutes: []\n#END\n";
    let declared = yaml(text).expect("complete");
    assert_eq!(keys(&declared), ["/apisix/routes/1"]);
    let problems = declared.problems();
    for (problem, parts) in problems.iter().zip([
        &["line 3: routes[1] (/apisix/routes/2)", "uri"][..],
        &["line 4: routes[2]", "twice"],
        &["line 5: routes[3]", "\"a b\" is no id"],
        &["rutes: no kind of resource"],
    ]) {
        assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
    }
    assert_eq!(problems.len(), 4);
}

/// One of each kind, with values that are awkward to write down.
fn everything() -> Vec<(&'static str, Value)> {
    vec![
        ("/apisix/upstreams/1", json!({"id": "1", "nodes": {"a:1": 1}, "create_time": 5})),
        ("/apisix/services/007", json!({"id": "007", "upstream_id": "1"})),
        (
            "/apisix/routes/1",
            json!({"id": 1, "uri": "/*", "service_id": "007", "desc": "no: #END\n\"yes\" 'x'\t\u{e9}\u{1f600}", "priority": -1}),
        ),
        (
            "/apisix/routes/true",
            json!({"id": "true", "uri": "/a", "name": "1e3", "labels": {"on": "null", "~": "0x1f"}, "vars": [["arg_a", "~~", "^\\d+$"]]}),
        ),
        ("/apisix/consumers/jack", json!({"username": "jack", "plugins": {}})),
        (
            "/apisix/consumers/jack/credentials/c1",
            json!({"id": "c1", "plugins": {"key-auth": {"key": "k"}}}),
        ),
        ("/apisix/consumer_groups/g", json!({"id": "g", "plugins": {}})),
        ("/apisix/plugin_configs/p", json!({"id": "p", "plugins": {}})),
        ("/apisix/global_rules/g", json!({"id": "g", "plugins": {}})),
        ("/apisix/plugin_metadata/key-auth", json!({"id": "key-auth"})),
        (
            "/apisix/protos/p",
            json!({"id": "p", "content": "syntax = \"proto3\";\n\nmessage M {}\n"}),
        ),
        ("/apisix/secrets/vault/1", json!({"id": "vault/1", "token": "t"})),
        ("/apisix/stream_routes/s", json!({"id": "s", "server_port": 9000})),
        ("/weft/peer_authentications/p", json!({"id": "p", "namespace": "n"})),
        ("/weft/mesh/default", json!({"trust_domain": "td"})),
    ]
}

async fn values(store: &dyn Store) -> Vec<(String, Value)> {
    let listing = store.list("/").await.expect("listed");
    let entries =
        listing.entries.into_iter().filter(|entry| ResourceKey::parse(&entry.key).is_some());
    let value = |entry: Entry| (entry.key, serde_json::from_slice(&entry.value).expect("JSON"));
    entries.map(value).collect()
}

async fn exported(store: &dyn Store, format: Format) -> String {
    let listing = store.list("/").await.expect("listed");
    Declared::of_listing(&listing).render(format).expect("text")
}

#[tokio::test]
async fn an_export_imports_to_the_same_in_every_store_and_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = embedded(&folder, "first");
    for (key, value) in everything() {
        first.put(Put::new(key, value.to_string())).await.expect("written");
    }
    first.put(Put::new("/apisix/gen_id", "1")).await.expect("written");
    let all = values(&first).await;
    assert_eq!(all.len(), everything().len());
    let server = crate::etcd::tests::Server::start().await;
    let etcd = crate::etcd::tests::store(&[&server.url]).await;
    for format in [Format::Yaml, Format::Json] {
        let text = exported(&first, format).await;
        let declared = Declared::parse(&text, format, &nothing).expect("complete");
        assert_eq!(declared.problems(), [] as [&str; 0]);
        let imported = declared.import(&etcd, true).await.expect("imported");
        assert_eq!(imported.written + imported.unchanged, all.len());
        assert_eq!(values(&etcd).await, all);
        let name = if format == Format::Yaml { "apisix.yaml" } else { "apisix.json" };
        let path = folder.path().join(name);
        std::fs::write(&path, exported(&etcd, format).await).expect("written");
        let file = FileStore::open(&path, &folder.path().join(format!("{name}.redb"))).await;
        let file = file.expect("a store");
        assert_eq!(values(&file).await, all);
        assert_eq!(exported(&file, format).await, text);
    }
}

#[tokio::test]
async fn an_import_deletes_only_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> = Arc::new(embedded(&folder, "store"));
    let first = yaml("routes: [{id: 1, uri: /a}, {id: 2, uri: /b}]\n#END").expect("complete");
    assert_eq!(first.import(&*store, false).await.expect("imported").written, 2);
    let second = yaml("routes: [{id: 2, uri: /b}, {id: 3, uri: /c}]\n#END").expect("complete");
    let imported = second.import(&*store, false).await.expect("imported");
    assert_eq!(imported, Imported { written: 1, deleted: 0, unchanged: 1 });
    assert_eq!(second.import(&*store, true).await.expect("imported").deleted, 1);
    assert_eq!(values(&*store).await.len(), 2);
}
