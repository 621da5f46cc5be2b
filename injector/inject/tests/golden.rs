//! Pods and what they become. `UPDATE_GOLDEN=1` writes the outcomes anew.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_inject::{Settings, inject, inject_documents};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        entries.filter(|path| path.to_str().unwrap().ends_with(".in.yaml")).collect();
    cases.sort();
    assert!(cases.len() > 10);
    cases
}

fn settings(text: &str) -> Settings {
    let given = text.lines().next().and_then(|line| line.strip_prefix("# settings: "));
    Settings::parse(given.unwrap_or_default()).unwrap()
}

fn compare(input: &Path, outcome: &str) {
    let output = PathBuf::from(input.to_str().unwrap().replace(".in.yaml", ".out.yaml"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&output, outcome).unwrap();
    }
    let known = fs::read_to_string(&output).unwrap_or_default();
    assert_eq!(outcome, known, "{}: UPDATE_GOLDEN=1 rewrites it", output.display());
}

#[test]
fn pods_become_what_is_written_down() {
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        if text.starts_with("# file") {
            let done = inject_documents(&text, "default", &Settings::default()).unwrap();
            compare(&path, &done.yaml);
            continue;
        }
        let pod: Value = serde_saphyr::from_str(&text).unwrap();
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        let decision = inject(&pod, namespace, &settings(&text)).unwrap();
        let mut outcome = serde_saphyr::to_string(&decision.pod).unwrap();
        for warning in &decision.warnings {
            outcome.push_str(&format!("# {warning}\n"));
        }
        compare(&path, &outcome);
    }
}

#[test]
fn patches_make_the_pod_and_injecting_again_changes_nothing() {
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        if text.starts_with("# file") {
            continue;
        }
        let settings = settings(&text);
        let pod: Value = serde_saphyr::from_str(&text).unwrap();
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        let decision = inject(&pod, namespace, &settings).unwrap();
        let patch = serde_json::to_value(decision.patch(&pod)).unwrap();
        let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched, decision.pod, "{}", path.display());
        let again = inject(&decision.pod, namespace, &settings).unwrap();
        assert_eq!(again.patch(&decision.pod), [], "{}", path.display());
    }
}

#[test]
fn the_settings_in_the_manifests_are_readable() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/base/weft.yaml");
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap();
    let map = objects
        .iter()
        .find(|one| one["kind"] == "ConfigMap" && one["metadata"]["name"] == "weft-injector");
    let text = map.unwrap()["data"]["settings.yaml"].as_str().unwrap();
    let settings = Settings::parse(text).unwrap();
    assert_eq!(settings.image, Settings::default().image);
    assert_eq!(settings.control_plane, Settings::default().control_plane);
}
