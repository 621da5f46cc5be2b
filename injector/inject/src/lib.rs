//! What Weft adds to a pod: `inject(pod, namespace, settings)`, a pure function.
//!
//! It works on the pod's JSON, so that fields which a newer Kubernetes has and this crate does not
//! know stay as they are. The webhook and `weft inject` are the two programs around it.

mod annotations;
mod container;
mod decide;
mod document;
mod init;
mod merge;
mod metadata;
mod options;
mod patch;
mod pod;
mod probes;
mod proxy_config;
mod quantity;
mod settings;
mod volumes;

pub use decide::SkipReason;
pub use document::{DocumentError, Injected, inject_documents};
pub use options::Refusal;
pub use patch::{Operation, difference};
pub use probes::{Probe, ProbeKind};
pub use settings::{NativeSidecars, PortDefaults, Resources, Settings, SettingsError};

use serde_json::Value;

/// The name of the proxy's container.
pub const PROXY_CONTAINER: &str = "weft-proxy";
/// The name of the container that installs the interception rules.
pub const INIT_CONTAINER: &str = "weft-init";
/// The user and group of the proxy.
pub const PROXY_ID: u32 = 1337;

/// What became of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The pod as it is to be.
    pub pod: Value,
    /// Why nothing but the record of this decision was added; `None` when the pod was injected.
    pub skipped: Option<SkipReason>,
    /// What the pod's owner should know.
    pub warnings: Vec<String>,
}

impl Decision {
    /// What makes the pod as it was into the pod as it is to be (RFC 6902).
    #[must_use]
    pub fn patch(&self, before: &Value) -> Vec<Operation> {
        difference(before, &self.pod)
    }
}

/// Adds the sidecar to a pod of `namespace`, or says why not.
///
/// # Errors
/// [`Refusal`] when the pod asks for something that can't be done: a value that an annotation
/// can't have, a template that there isn't. Its message has the annotation and the cure.
pub fn inject(pod: &Value, namespace: &str, settings: &Settings) -> Result<Decision, Refusal> {
    if let Some(reason) = decide::foreign(namespace, settings) {
        return Ok(decide::skipped(pod, reason));
    }
    pod::check_shape(pod)?;
    if let Some(reason) = decide::skip(pod, settings)? {
        return Ok(decide::skipped(pod, reason));
    }
    let options = options::PodOptions::read(pod, namespace, settings)?;
    if let Some(reason) = decide::skip_for_options(pod, &options) {
        return Ok(decide::skipped(pod, reason));
    }
    pod::build(pod, &options, settings)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
