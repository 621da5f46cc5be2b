//! Compiles the `.proto` files that the `envoy-types` package ships into one descriptor set, so
//! that the JSON and YAML mapping always fits the message types the crate re-exports.

#![allow(clippy::print_stdout, reason = "build scripts talk to cargo on standard output")]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Folders of the package that are roots of imports; every file below them is compiled.
const ROOTS: [&str; 8] = [
    "data-plane-api",
    "xds",
    "cel-spec/proto",
    "client_model",
    "googleapis",
    "opentelemetry-proto",
    "protoc-gen-validate",
    "ratelimit/api",
];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let package = envoy_types_folder()?;
    let mut roots: Vec<PathBuf> =
        ROOTS.iter().map(|root| package.join("proto").join(root)).collect();
    roots.push(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("proto"));
    let well_known = protoc_bin_vendored::include_path()?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut arguments = String::new();
    for folder in roots.iter().chain([&well_known]) {
        arguments.push_str(&format!("--proto_path={}\n", folder.display()));
    }
    for root in &roots {
        for file in proto_files(root)? {
            arguments.push_str(&format!("{}\n", file.strip_prefix(root)?.display()));
        }
    }
    let argument_file = out.join("protoc.args");
    fs::write(&argument_file, arguments)?;
    let output = Command::new(protoc_bin_vendored::protoc_bin_path()?)
        .arg("--include_imports")
        .arg(format!("--descriptor_set_out={}", out.join("descriptors.bin").display()))
        .arg(format!("@{}", argument_file.display()))
        .output()?;
    if !output.status.success() {
        return Err(format!("protoc failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// Asks cargo where the `envoy-types` package of this build lies. A machine that has never fetched
/// the whole lock file lacks packages that only other builds need, and cargo wants those too.
fn envoy_types_folder() -> Result<PathBuf> {
    let mut output = metadata(&["--offline"])?;
    if !output.status.success() {
        output = metadata(&["--locked"])?;
    }
    if !output.status.success() {
        return Err(
            format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata names no envoy-types package")?;
    Ok(Path::new(manifest).parent().ok_or("envoy-types has no folder")?.to_owned())
}

fn metadata(how: &[&str]) -> Result<Output> {
    Ok(Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .arg(env::var("TARGET")?)
        .args(how)
        .arg("--manifest-path")
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()?)
}

/// Every `.proto` file below `folder`, in a stable order.
fn proto_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
