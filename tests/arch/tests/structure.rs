//! The structure of the workspace, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Lines that a file may have, its tests left out.
const MAX_LINES: usize = 500;

/// The layers of the data plane from the top down; a crate may use only what stands on a later line.
const DATA_PLANE: &[&[&str]] = &[
    &["weft-sidecar"],
    &["weft-admin", "weft-http", "weft-config", "weft-pod", "weft-dns"],
    &["weft-filters", "weft-upstream", "weft-net"],
    &["weft-codec"],
    &["weft-model", "weft-plugins"],
    &["weft-filter-api", "weft-route"],
    &["weft-telemetry"],
];

/// The same for the control plane.
const CONTROL_PLANE: &[&[&str]] = &[
    &["weft-control-plane"],
    &["weft-admin-api", "weft-translate", "weft-discovery", "weft-kubernetes"],
    &["weft-store"],
    &["weft-control-model"],
];

/// What both planes must understand in the same way: the control plane checks plugins with the code
/// that proxies run, and both read APISIX's expressions and schemas.
const SHARED: &[&str] = &["weft-apisix", "weft-plugins"];

/// Crates that may name a protobuf type.
const PROTOBUF: &[&str] = &[
    "weft-xds-proto",
    "weft-xds-ads",
    "weft-xds-client",
    "weft-xds-server",
    "weft-config",
    "weft-filters",
    "weft-translate",
    "weft-store",
    "weft-ca",
    "weft-cert-agent",
    "weft-control-plane",
    "weft-sidecar",
    "weft-bench",
    "weft-micro",
    "weft-fuzz",
];

/// Folders below which a file may allow unsafe code.
const UNSAFE: &[&str] = &["sidecar/net/", "injector/netns/", "injector/redirect/"];

struct Crate {
    name: String,
    folder: PathBuf,
    /// Weft's own crates that it uses when built, tests left out.
    uses: BTreeSet<String>,
    /// Other crates that it uses when built.
    third_party: BTreeSet<String>,
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the workspace is two folders up").to_owned()
}

fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(package).collect()
}

fn package(package: &Value) -> Crate {
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let mut uses = BTreeSet::new();
    let mut third_party = BTreeSet::new();
    for dependency in package["dependencies"].as_array().expect("dependencies") {
        if dependency["kind"].as_str() == Some("dev") {
            continue;
        }
        let own = dependency["path"].is_string();
        if own { &mut uses } else { &mut third_party }.insert(text(&dependency["name"]));
    }
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    let folder = manifest.parent().expect("a folder").to_owned();
    Crate { name: text(&package["name"]), folder, uses, third_party }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn layer(layers: &[&[&str]], name: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.contains(&name))
}

#[test]
fn crates_use_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for krate in crates() {
        for layers in [DATA_PLANE, CONTROL_PLANE] {
            let Some(own) = layer(layers, &krate.name) else { continue };
            let upwards =
                krate.uses.iter().filter(|used| layer(layers, used).is_some_and(|at| at <= own));
            wrong.extend(upwards.map(|used| format!("{} uses {used}", krate.name)));
        }
        let planes = [DATA_PLANE, CONTROL_PLANE].map(|layers| layer(layers, &krate.name).is_some());
        if planes[0] {
            let other = krate.uses.iter().filter(|used| layer(CONTROL_PLANE, used).is_some());
            wrong.extend(other.map(|used| format!("{} of the data plane uses {used}", krate.name)));
        }
        if planes[1] {
            let other = krate.uses.iter().filter(|used| layer(DATA_PLANE, used).is_some());
            let other = other.filter(|used| !SHARED.contains(&used.as_str()));
            wrong.extend(
                other.map(|used| format!("{} of the control plane uses {used}", krate.name)),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_of_both_planes_has_a_layer() {
    let without: Vec<_> = crates()
        .into_iter()
        .filter(|krate| {
            let top = krate.folder.strip_prefix(root()).expect("below the root");
            top.starts_with("sidecar") || top.starts_with("control-plane")
        })
        .filter(|krate| {
            let layer = layer(DATA_PLANE, &krate.name).or(layer(CONTROL_PLANE, &krate.name));
            layer.is_none() && !SHARED.contains(&krate.name.as_str())
        })
        .map(|krate| krate.name)
        .collect();
    assert!(without.is_empty(), "give these a layer in this test: {without:?}");
}

#[test]
fn protobuf_stays_at_the_boundary() {
    let names = ["prost", "prost-types", "prost-reflect", "envoy-types", "weft-xds-proto"];
    let wrong: Vec<_> = crates()
        .into_iter()
        .filter(|krate| !PROTOBUF.contains(&krate.name.as_str()))
        .filter(|krate| {
            let all: BTreeSet<_> =
                krate.uses.union(&krate.third_party).map(String::as_str).collect();
            names.iter().any(|name| all.contains(name))
        })
        .map(|krate| krate.name)
        .collect();
    assert!(wrong.is_empty(), "these depend on protobuf: {wrong:?}");
}

#[test]
fn files_stay_small() {
    let mut long = BTreeMap::new();
    for krate in crates() {
        for path in sources(&krate.folder.join("src")) {
            let text = fs::read_to_string(&path).expect("a source file");
            let is_test = path.components().any(|part| part.as_os_str() == "tests")
                || path.file_stem().is_some_and(|stem| stem == "tests" || stem == "testing");
            let lines = text.lines().take_while(|line| *line != "mod tests {").count();
            if lines > MAX_LINES && !is_test {
                long.insert(path.strip_prefix(root()).expect("below the root").to_owned(), lines);
            }
        }
    }
    assert!(long.is_empty(), "split these: {long:#?}");
}

#[test]
fn unsafe_code_stays_where_sockets_and_namespaces_need_it() {
    let mut wrong = Vec::new();
    for krate in crates() {
        for path in sources(&krate.folder) {
            let place = path.strip_prefix(root()).expect("below the root").display().to_string();
            let text = fs::read_to_string(&path).expect("a source file");
            let allows = text.contains(concat!("allow(unsafe", "_code)"));
            if allows && !UNSAFE.iter().any(|folder| place.starts_with(folder)) {
                wrong.push(place.clone());
            }
            let blocks = unsafe_blocks(&text);
            let reasons = text.matches(concat!("// SAFETY", ":")).count();
            assert!(blocks <= reasons, "{place}: an unsafe block without `// SAFETY:`");
        }
    }
    assert!(wrong.is_empty(), "unsafe code is not allowed in {wrong:?}");
}

/// Unsafe blocks: the word alone, not the end of a longer name.
fn unsafe_blocks(text: &str) -> usize {
    let starts = text.match_indices(concat!("unsafe", " {")).map(|(at, _)| at);
    starts.filter(|at| !text[..*at].ends_with(|c: char| c == '_' || c.is_alphanumeric())).count()
}

#[test]
fn every_crate_says_what_it_is_for() {
    for krate in crates() {
        let readme = fs::read_to_string(krate.folder.join("README.md")).unwrap_or_default();
        assert!(readme.lines().count() > 3, "{}: README.md is missing or empty", krate.name);
        let main = ["src/lib.rs", "src/main.rs"].map(|file| krate.folder.join(file));
        let text =
            main.iter().find_map(|file| fs::read_to_string(file).ok()).expect("a root module");
        assert!(text.starts_with("//! "), "{}: the root module has no `//!`", krate.name);
    }
}
