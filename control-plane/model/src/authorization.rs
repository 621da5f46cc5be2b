//! Who may do what: the fields of Istio's `AuthorizationPolicy` (`security.istio.io/v1`), with their
//! meaning.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Labels;
use crate::error::{DecodeError, decode};
use crate::mesh::WorkloadSelector;
use crate::resources::Item;

/// Who may do what at a set of workloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicy {
    /// The name that decisions are told under; the id if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// The namespace that it holds for; the root namespace's for the mesh.
    pub namespace: String,
    /// The workloads; absent or empty means all.
    #[serde(default)]
    pub selector: WorkloadSelector,
    /// What happens to what a rule matches.
    #[serde(default)]
    pub action: AuthorizationAction,
    /// A request matches that matches one of them; without rules none does.
    #[serde(default)]
    pub rules: Vec<AuthorizationRule>,
    /// Who is asked by the action `CUSTOM`.
    #[serde(default)]
    pub provider: Option<Provider>,
}

/// What happens to what a rule matches.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthorizationAction {
    /// A provider decides.
    Custom,
    /// It is refused.
    Deny,
    /// It is served, and what no rule matches is not.
    #[default]
    Allow,
    /// It is marked.
    Audit,
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its name among the mesh's providers.
    pub name: String,
}

/// What matches: one of the sources does one of the operations under all conditions. What is absent
/// does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationRule {
    /// Who.
    #[serde(default)]
    pub from: Vec<SourceEntry>,
    /// What.
    #[serde(default)]
    pub to: Vec<OperationEntry>,
    /// Under which conditions.
    #[serde(default)]
    pub when: Vec<Condition>,
}

/// An entry of `from`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// The source.
    #[serde(default)]
    pub source: Source,
}

/// An entry of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationEntry {
    /// The operation.
    #[serde(default)]
    pub operation: Operation,
}

/// Who: all lists that are given must hold. Texts may begin or end with `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Identities, `trust domain/ns/namespace/sa/account`.
    pub principals: Vec<String>,
    /// Other identities than these.
    pub not_principals: Vec<String>,
    /// Identities from tokens.
    pub request_principals: Vec<String>,
    /// Other identities from tokens than these.
    pub not_request_principals: Vec<String>,
    /// Namespaces of the caller.
    pub namespaces: Vec<String>,
    /// Other namespaces than these.
    pub not_namespaces: Vec<String>,
    /// Service accounts, `namespace/account` or those of the policy's own namespace.
    pub service_accounts: Vec<String>,
    /// Other service accounts than these.
    pub not_service_accounts: Vec<String>,
    /// Ranges of the connection's source.
    pub ip_blocks: Vec<String>,
    /// Other sources than these.
    pub not_ip_blocks: Vec<String>,
    /// Ranges of the client, as `x-forwarded-for` tells it.
    pub remote_ip_blocks: Vec<String>,
    /// Other clients than these.
    pub not_remote_ip_blocks: Vec<String>,
}

/// What: all lists that are given must hold. Texts may begin or end with `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Hosts, without regard to case.
    pub hosts: Vec<String>,
    /// Other hosts than these.
    pub not_hosts: Vec<String>,
    /// Ports of the workload.
    pub ports: Vec<String>,
    /// Other ports than these.
    pub not_ports: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// Other methods than these.
    pub not_methods: Vec<String>,
    /// Paths without their queries.
    pub paths: Vec<String>,
    /// Other paths than these.
    pub not_paths: Vec<String>,
}

/// A further condition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// An attribute, such as `request.headers[x-user]`.
    pub key: String,
    /// One of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}

impl AuthorizationPolicy {
    /// Decodes a stored policy.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path; the action `CUSTOM`, since the mesh has no
    /// providers.
    pub fn from_json(value: &Value) -> Result<Self, DecodeError> {
        let policy: Self = decode(value)?;
        if policy.action == AuthorizationAction::Custom {
            let name = policy.provider.as_ref().map_or("", |provider| provider.name.as_str());
            let reason = format!("CUSTOM asks the provider {name:?}, and the mesh has none");
            return Err(DecodeError::new("action", reason));
        }
        for (at, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|(field, reason)| {
                DecodeError::new(format!("rules[{at}].{field}"), reason)
            })?;
        }
        Ok(policy)
    }
}

impl AuthorizationRule {
    fn check(&self) -> Result<(), (String, String)> {
        for (at, entry) in self.from.iter().enumerate() {
            let Source { ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks, .. } =
                &entry.source;
            let blocks = [ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks];
            let bad = |block: &&String| range(block).is_none();
            if let Some(block) = blocks.into_iter().flatten().find(bad) {
                return Err((format!("from[{at}]"), format!("{block:?} is no range of addresses")));
            }
        }
        for (at, entry) in self.to.iter().enumerate() {
            let Operation { ports, not_ports, paths, not_paths, .. } = &entry.operation;
            let is_port = |text: &&String| !matches!(text.parse::<u16>(), Ok(1..));
            if let Some(text) = ports.iter().chain(not_ports).find(is_port) {
                return Err((format!("to[{at}]"), format!("{text:?} is no port")));
            }
            if let Some(path) = paths.iter().chain(not_paths).find(|path| path.contains('{')) {
                let reason = format!("{path:?}: templates of paths are not known");
                return Err((format!("to[{at}]"), reason));
            }
        }
        for (at, condition) in self.when.iter().enumerate() {
            condition.check().map_err(|reason| (format!("when[{at}]"), reason))?;
        }
        Ok(())
    }
}

impl Condition {
    fn check(&self) -> Result<(), String> {
        if self.values.is_empty() && self.not_values.is_empty() {
            return Err("needs values or notValues".to_owned());
        }
        let all = || self.values.iter().chain(&self.not_values);
        let bad = match self.key.as_str() {
            "source.ip" | "remote.ip" | "destination.ip" => {
                all().find(|text| range(text).is_none()).map(|text| (text, "range of addresses"))
            }
            "destination.port" => {
                all().find(|text| text.parse::<u16>().is_err()).map(|text| (text, "port"))
            }
            "source.namespace"
            | "source.principal"
            | "source.serviceAccount"
            | "request.auth.principal"
            | "request.auth.audiences"
            | "request.auth.presenter"
            | "connection.sni" => None,
            key if bracketed(key, "request.headers").is_some_and(is_header_name)
                || bracketed(key, "request.auth.claims").is_some() =>
            {
                None
            }
            key => return Err(format!("{key:?} is no attribute that is known")),
        };
        bad.map_or(Ok(()), |(text, what)| Err(format!("{text:?} is no {what}")))
    }
}

/// The policies that hold for a workload of `namespace` with `labels`: those of its namespace and
/// those of the root namespace whose selectors choose it, in the order of their ids.
pub fn effective_authorization<'a>(
    policies: impl IntoIterator<Item = &'a Item<AuthorizationPolicy>>,
    root_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> Vec<&'a Item<AuthorizationPolicy>> {
    let holds = |item: &&Item<AuthorizationPolicy>| {
        let policy = &item.value;
        (policy.namespace == root_namespace || policy.namespace == namespace)
            && policy.selector.matches(labels)
    };
    policies.into_iter().filter(holds).collect()
}

/// What stands in the brackets behind an attribute: `request.headers[x]`.
pub fn bracketed<'a>(key: &'a str, attribute: &str) -> Option<&'a str> {
    key.strip_prefix(attribute)?.strip_prefix('[')?.strip_suffix(']')
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

/// A range of addresses: its first address and the length of its prefix. An address alone is one.
pub fn range(text: &str) -> Option<(std::net::IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    (length <= most).then_some((address, length))
}

#[cfg(test)]
mod tests;
