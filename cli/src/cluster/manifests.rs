//! What is installed: the plain YAML of `manifests/`, which is part of this program.

use anyhow::{Result, ensure};

const NAMESPACE: &str = include_str!("../../../manifests/base/namespace.yaml");
const MESH: &str = include_str!("../../../manifests/base/weft.yaml");
const EDGE: &str = include_str!("../../../manifests/overlays/edge/edge.yaml");
/// The image that the manifests name.
const IMAGE: &str = concat!("ghcr.io/weft-mesh/weft:", env!("CARGO_PKG_VERSION"));

/// The objects of an installation.
pub(super) struct Manifests {
    yaml: String,
    edge: bool,
}

impl Manifests {
    /// With another image, if one is given, and with or without an edge.
    pub(super) fn new(image: Option<&str>, edge: bool) -> Result<Self> {
        let mut yaml = [NAMESPACE, MESH].join("\n---\n");
        if edge {
            yaml = [&yaml, EDGE].join("\n---\n");
        }
        if let Some(image) = image {
            let fine = |c: char| c.is_ascii_alphanumeric() || "./:-_@".contains(c);
            ensure!(!image.is_empty() && image.chars().all(fine), "--image {image:?} is no image");
            yaml = yaml.replace(IMAGE, image);
        }
        Ok(Self { yaml, edge })
    }

    pub(super) fn yaml(&self) -> &str {
        &self.yaml
    }

    /// All but the namespace, which goes with what it holds.
    pub(super) fn without_namespace(&self) -> String {
        self.yaml.replacen(NAMESPACE, "", 1)
    }

    /// What is waited for.
    pub(super) fn workloads(&self) -> &'static [&'static str] {
        let all =
            &["statefulset/weft-control-plane", "deployment/weft-injector", "deployment/weft-edge"];
        if self.edge { all } else { &all[..2] }
    }
}
