//! The mesh's settings, and who must speak mTLS. Fields mean what Istio's of
//! the same name mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Labels;
use crate::error::{DecodeError, decode};
use crate::resources::Item;

/// The settings of the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// The trust domain of every identity in the mesh.
    pub trust_domain: String,
    /// What sidecars do with traffic to hosts that the mesh doesn't know.
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The namespace whose policies hold for the whole mesh.
    pub root_namespace: String,
}

/// What sidecars do with traffic to hosts that the mesh doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicy {
    /// Passes it on to its original destination.
    #[default]
    AllowAny,
    /// Refuses it.
    RegistryOnly,
}

/// Who must speak mTLS to a set of workloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerAuthentication {
    /// The namespace that it holds for; the root namespace's for the mesh.
    pub namespace: String,
    /// The workloads of the namespace; absent or empty means all.
    #[serde(default)]
    pub selector: WorkloadSelector,
    /// For all ports.
    #[serde(default)]
    pub mtls: MutualTls,
    /// For single ports of the workload; needs a selector.
    #[serde(default, alias = "port_level_mtls")]
    pub port_level_mtls: BTreeMap<u16, MutualTls>,
}

/// Chooses workloads by labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSelector {
    /// All of these must be on the workload.
    #[serde(default, alias = "match_labels")]
    pub match_labels: Labels,
}

/// The `mtls` of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MutualTls {
    /// `UNSET` inherits.
    #[serde(default)]
    pub mode: MtlsMode,
}

/// Whether inbound connections use mTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// Inherited from the policy above.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Either.
    Permissive,
    /// mTLS only.
    Strict,
}

/// What holds for one workload; never [`MtlsMode::Unset`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveMtls {
    /// For ports without their own mode.
    pub mode: MtlsMode,
    /// For single ports.
    pub ports: BTreeMap<u16, MtlsMode>,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            outbound_traffic_policy: OutboundTrafficPolicy::AllowAny,
            root_namespace: "weft-system".to_owned(),
        }
    }
}

impl MeshConfig {
    /// Decodes the stored settings; absent fields take their defaults.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        decode(&without_bookkeeping(value))
    }
}

impl PeerAuthentication {
    /// Decodes a stored policy.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        let policy: Self = decode(value)?;
        if !policy.port_level_mtls.is_empty() && policy.selector.match_labels.is_empty() {
            let reason = "needs a selector: ports belong to workloads";
            return Err(DecodeError::new("portLevelMtls", reason));
        }
        Ok(policy)
    }
}

impl EffectiveMtls {
    /// The mode for `port` of the workload.
    pub fn for_port(&self, port: u16) -> MtlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

/// What holds for a workload of `namespace` with `labels`.
///
/// A policy with a selector wins over its namespace's, that over the root
/// namespace's, and without any the mode is permissive; of several on one
/// level the oldest holds. Selectors in the root namespace choose nothing.
pub fn effective_mtls<'a>(
    policies: impl IntoIterator<Item = &'a Item<PeerAuthentication>>,
    root_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> EffectiveMtls {
    let mut levels: [Option<&Item<PeerAuthentication>>; 3] = [None; 3];
    for item in policies {
        let policy = &item.value;
        let selects_all = policy.selector.match_labels.is_empty();
        let level = match policy.namespace.as_str() {
            root if root == root_namespace && selects_all => 0,
            root if root == root_namespace => continue,
            own if own == namespace && selects_all => 1,
            own if own == namespace && policy.selector.matches(labels) => 2,
            _ => continue,
        };
        if levels[level].is_none_or(|known| item.created < known.created) {
            levels[level] = Some(item);
        }
    }
    let mode = levels
        .iter()
        .flatten()
        .fold(MtlsMode::Permissive, |above, item| item.value.mtls.mode.or(above));
    let ports = levels[2].map(|item| &item.value.port_level_mtls);
    let ports = ports.into_iter().flatten().map(|(port, mtls)| (*port, mtls.mode.or(mode)));
    EffectiveMtls { mode, ports: ports.collect() }
}

impl WorkloadSelector {
    /// Whether every label of the selector is among `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl MtlsMode {
    fn or(self, above: Self) -> Self {
        if self == Self::Unset { above } else { self }
    }
}

/// Stored values carry id and times beside the author's fields.
fn without_bookkeeping(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "id" | "create_time" | "update_time"));
    }
    value
}

#[cfg(test)]
mod tests;
