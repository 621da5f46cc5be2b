use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;

/// A `kubectl` that answers as the lines of a file say: a beginning of its arguments, and the
/// answer. It notes what it was asked.
fn kubectl(folder: &Path, answers: &[(&str, &str)]) -> ClusterOptions {
    let cases =
        answers.iter().map(|(arguments, answer)| format!("'{arguments}'*) echo '{answer}';;\n"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {0}/asked\ncase \"$*\" in\n*--filename=-*) cat > {0}/input; echo applied;;\n{1}*) echo \"not known: $*\" >&2; exit 1;;\nesac\n",
        folder.display(),
        cases.collect::<String>(),
    );
    let path = folder.join("kubectl");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    ClusterOptions { kubectl: path, context: None }
}

const VERSION: (&str, &str) = ("version", r#"{"serverVersion": {"major": "1", "minor": "33+"}}"#);
const HEALTHY: [(&str, &str); 8] = [
    VERSION,
    ("auth can-i", "yes"),
    ("get mutatingwebhookconfigurations", r#"{"items": []}"#),
    ("rollout status", "rolled out"),
    ("get statefulset", r#"{"spec": {"replicas": 1}, "status": {"readyReplicas": 1}}"#),
    ("get deployment", r#"{"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}"#),
    (
        "get mutatingwebhookconfiguration weft",
        r#"{"webhooks": [{"clientConfig": {"caBundle": "eA=="}}]}"#,
    ),
    ("get", r#"{"items": []}"#),
];

fn install_options(cluster: ClusterOptions) -> InstallOptions {
    let image = Some("registry.example/weft:2".to_owned());
    InstallOptions { cluster, image, edge: true, dry_run: false, timeout: 10 }
}

fn told(run: impl FnOnce(&mut dyn Write) -> Result<ExitCode>) -> (Result<ExitCode>, String) {
    let mut out = Vec::new();
    let result = run(&mut out);
    (result, String::from_utf8(out).unwrap())
}

#[test]
fn everything_is_applied_with_the_wanted_image_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let options = install_options(kubectl(folder.path(), &HEALTHY));
    let (result, text) = told(|out| install(&options, out));
    assert_eq!(result.unwrap(), ExitCode::SUCCESS, "{text}");
    assert!(text.contains("deployment/weft-edge runs"), "{text}");
    let input = std::fs::read_to_string(folder.path().join("input")).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&input).unwrap();
    assert!(objects.iter().any(|object| object["kind"] == "Namespace"));
    assert!(objects.iter().any(|object| object["metadata"]["name"] == "weft-edge"));
    assert!(input.contains("image: registry.example/weft:2") && !input.contains("ghcr.io"));
    let (result, printed) =
        told(|out| install(&InstallOptions { dry_run: true, ..options.clone() }, out));
    result.unwrap();
    assert_eq!(printed, input);
}

#[test]
fn what_is_in_the_way_is_named_before_anything_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let old = ("version", r#"{"serverVersion": {"major": "1", "minor": "20"}}"#);
    let answers = [old, ("auth can-i create clusterroles", "no"), HEALTHY[1], HEALTHY[2]];
    let options = install_options(kubectl(folder.path(), &answers));
    let (result, text) = told(|out| install(&options, out));
    assert!(result.is_err());
    assert!(text.contains("1.20 is older") && text.contains("create clusterroles"), "{text}");
    assert!(!folder.path().join("input").exists());
}

#[test]
fn a_sick_installation_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [
        ("get statefulset", r#"{"spec": {"replicas": 1}, "status": {}}"#),
        ("get deployment", ""),
        ("get mutatingwebhookconfiguration", r#"{"webhooks": [{"clientConfig": {}}]}"#),
        ("get namespaces", r#"{"items": [{"metadata": {"name": "shop"}}]}"#),
        ("get configmaps", r#"{"items": []}"#),
        ("get pods", r#"{"items": [{"metadata": {"name": "web", "namespace": "shop"}}]}"#),
    ];
    let options = CheckOptions { cluster: kubectl(folder.path(), &answers), pre: false };
    let (result, text) = told(|out| check(&options, out));
    assert_eq!(result.unwrap(), ExitCode::FAILURE);
    for words in [
        "0 of 1 ready",
        "no deployment weft-injector",
        "no caBundle",
        "shop has no ConfigMap",
        "shop/web",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn the_webhook_goes_first_and_data_goes_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = kubectl(folder.path(), &[("delete", "deleted")]);
    let (result, _) =
        told(|out| uninstall(&UninstallOptions { cluster: cluster.clone(), purge: false }, out));
    result.unwrap();
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.starts_with("delete mutatingwebhookconfigurations"), "{asked}");
    assert!(!asked.contains("namespace weft-system"), "{asked}");
    let input = std::fs::read_to_string(folder.path().join("input")).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&input).unwrap();
    assert!(objects.iter().all(|object| object["kind"] != "Namespace"));
    told(|out| uninstall(&UninstallOptions { cluster, purge: true }, out)).0.unwrap();
    let asked = std::fs::read_to_string(folder.path().join("asked")).unwrap();
    assert!(asked.contains("namespace weft-system"), "{asked}");
}

#[test]
fn nothing_is_upgraded_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let options = install_options(kubectl(folder.path(), &[("get statefulset", "")]));
    let error = told(|out| upgrade(&options, out)).0.unwrap_err();
    assert!(error.to_string().contains("weft install"), "{error}");
}
