//! Policies of who may do what, as Envoy's RBAC filters, with Istio's reading of them.
//!
//! What only requests have (paths, methods, hosts, headers, tokens) matches nothing on TCP
//! connections: a rule that allows by it is left out there, and one that denies by it denies without
//! it. No request carries a proven token's identity in this mesh, so that what asks for one matches
//! nothing.

use std::collections::BTreeMap;

use weft_control_model::authorization::{
    AuthorizationRule, Condition, Operation, Source, bracketed,
};
use weft_control_model::{AuthorizationAction, AuthorizationPolicy, Item};
use weft_xds_proto::pb::envoy::config::listener::v3::Filter;
use weft_xds_proto::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac, permission, principal, rbac::Action,
};
use weft_xds_proto::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use weft_xds_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use weft_xds_proto::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;

use crate::listeners::{http_filter, network_filter};

mod matches;

use matches::{
    account, all_of, all_permissions, any_of, any_permission, cidr, header, namespace, not,
    not_permission, path, port, principal_name, text,
};

/// The order in which filters ask: what is refused is not asked about further.
const ORDER: [(AuthorizationAction, Action); 3] = [
    (AuthorizationAction::Audit, Action::Log),
    (AuthorizationAction::Deny, Action::Deny),
    (AuthorizationAction::Allow, Action::Allow),
];

/// Filters that stand in front of a workload.
#[derive(Default)]
pub(crate) struct Guards {
    /// In front of requests.
    pub(crate) http: Vec<HttpFilter>,
    /// In front of connections.
    pub(crate) tcp: Vec<Filter>,
}

/// How a rule is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Requests,
    /// What only requests have is not asked for.
    Connections,
}

impl Guards {
    /// The filters of these policies.
    pub(crate) fn of<'a>(policies: impl Iterator<Item = &'a Item<AuthorizationPolicy>>) -> Self {
        let policies: Vec<_> = policies.collect();
        let mut guards = Self::default();
        for (action, envoy) in ORDER {
            let of_action = policies.iter().copied().filter(|item| item.value.action == action);
            if let Some(rules) = rules(of_action.clone(), envoy, Reading::Requests) {
                let config = HttpRbac { rules: Some(rules), ..Default::default() };
                guards.http.push(http_filter("envoy.filters.http.rbac", &config));
            }
            if let Some(rules) = rules(of_action, envoy, Reading::Connections) {
                let stat_prefix = "tcp.".to_owned();
                let config = NetworkRbac { rules: Some(rules), stat_prefix, ..Default::default() };
                guards.tcp.push(network_filter("envoy.filters.network.rbac", &config));
            }
        }
        guards
    }
}

/// The rules of all policies of one action. Policies that allow nothing allow nothing; those that
/// deny or mark nothing are no filter.
fn rules<'a>(
    policies: impl Iterator<Item = &'a Item<AuthorizationPolicy>>,
    action: Action,
    reading: Reading,
) -> Option<Rbac> {
    let (mut named, mut any) = (BTreeMap::new(), false);
    for item in policies {
        any = true;
        let policy = &item.value;
        let own = policy.name.as_deref().unwrap_or(item.id.as_str());
        for (at, rule) in policy.rules.iter().enumerate() {
            let left_out = action != Action::Deny && reading == Reading::Connections;
            if left_out && needs_request(rule) {
                continue;
            }
            let name = format!("ns[{}]-policy[{own}]-rule[{at}]", policy.namespace);
            named.insert(name, translate(rule, &policy.namespace, reading));
        }
    }
    let wanted = any && (action == Action::Allow || !named.is_empty());
    wanted.then(|| Rbac {
        action: action.into(),
        policies: named.into_iter().collect(),
        ..Default::default()
    })
}

fn needs_request(rule: &AuthorizationRule) -> bool {
    let source = rule.from.iter().any(|entry| {
        let Source { request_principals, not_request_principals, .. } = &entry.source;
        !request_principals.is_empty() || !not_request_principals.is_empty()
    });
    let operation = rule.to.iter().any(|entry| {
        let Operation { hosts, not_hosts, methods, not_methods, paths, not_paths, .. } =
            &entry.operation;
        [hosts, not_hosts, methods, not_methods, paths, not_paths].iter().any(|all| !all.is_empty())
    });
    source || operation || rule.when.iter().any(|one| one.key.starts_with("request."))
}

fn translate(rule: &AuthorizationRule, own_namespace: &str, reading: Reading) -> Policy {
    let mut principals = Vec::new();
    let mut permissions = Vec::new();
    if !rule.from.is_empty() {
        let sources = rule.from.iter().map(|entry| source(&entry.source, own_namespace, reading));
        principals.push(any_of(sources.collect()));
    }
    if !rule.to.is_empty() {
        let operations = rule.to.iter().map(|entry| operation(&entry.operation, reading));
        permissions.push(any_permission(operations.collect()));
    }
    for condition in &rule.when {
        match of_principal(condition, own_namespace, reading) {
            Side::Principal(found) => principals.extend(found),
            Side::Permission => permissions.extend(of_permission(condition)),
        }
    }
    Policy {
        permissions: vec![all_permissions(permissions)],
        principals: vec![all_of(principals)],
        ..Default::default()
    }
}

type Test = fn(&str) -> principal::Identifier;
type Allowed = fn(&str) -> permission::Rule;

/// One of the first list, and none of the second.
fn asked(
    values: &[String],
    others: &[String],
    test: impl Fn(&str) -> principal::Identifier,
) -> Vec<Principal> {
    let one = |values: &[String]| {
        any_of(values.iter().map(|value| matches::principal(test(value))).collect())
    };
    let wanted = (!values.is_empty()).then(|| one(values));
    let unwanted = (!others.is_empty()).then(|| not(one(others)));
    wanted.into_iter().chain(unwanted).collect()
}

fn source(source: &Source, own_namespace: &str, reading: Reading) -> Principal {
    let mut all = Vec::new();
    all.extend(asked(&source.principals, &source.not_principals, principal_name));
    all.extend(asked(&source.namespaces, &source.not_namespaces, namespace));
    let of_account = |name: &str| account(name, own_namespace);
    all.extend(asked(&source.service_accounts, &source.not_service_accounts, of_account));
    let direct: Test = |block| principal::Identifier::DirectRemoteIp(cidr(block));
    all.extend(asked(&source.ip_blocks, &source.not_ip_blocks, direct));
    let remote: Test = |block| principal::Identifier::RemoteIp(cidr(block));
    all.extend(asked(&source.remote_ip_blocks, &source.not_remote_ip_blocks, remote));
    if reading == Reading::Requests {
        let (of_token, others) = (&source.request_principals, &source.not_request_principals);
        all.extend(asked(of_token, others, |_| matches::nobody()));
    }
    all_of(all)
}

/// One of the first list, and none of the second.
fn done(
    values: &[String],
    others: &[String],
    test: impl Fn(&str) -> permission::Rule,
) -> Vec<Permission> {
    let one = |values: &[String]| {
        any_permission(values.iter().map(|value| matches::permission(test(value))).collect())
    };
    let wanted = (!values.is_empty()).then(|| one(values));
    let unwanted = (!others.is_empty()).then(|| not_permission(one(others)));
    wanted.into_iter().chain(unwanted).collect()
}

fn operation(operation: &Operation, reading: Reading) -> Permission {
    let mut all = Vec::new();
    if reading == Reading::Requests {
        let host: Allowed = |value| permission::Rule::Header(header(":authority", value, true));
        all.extend(done(&operation.hosts, &operation.not_hosts, host));
        let method: Allowed = |value| permission::Rule::Header(header(":method", value, false));
        all.extend(done(&operation.methods, &operation.not_methods, method));
        let of_path: Allowed = |value| permission::Rule::UrlPath(path(value));
        all.extend(done(&operation.paths, &operation.not_paths, of_path));
    }
    let of_port: Allowed = |value| permission::Rule::DestinationPort(port(value));
    all.extend(done(&operation.ports, &operation.not_ports, of_port));
    all_permissions(all)
}

/// What a condition asks.
enum Side {
    /// Of who calls.
    Principal(Vec<Principal>),
    /// Of what is called.
    Permission,
}

fn of_principal(condition: &Condition, own_namespace: &str, reading: Reading) -> Side {
    let Condition { key, values, not_values } = condition;
    let both = |test: &dyn Fn(&str) -> principal::Identifier| asked(values, not_values, test);
    Side::Principal(match key.as_str() {
        "source.ip" => both(&|block| principal::Identifier::DirectRemoteIp(cidr(block))),
        "remote.ip" => both(&|block| principal::Identifier::RemoteIp(cidr(block))),
        "source.namespace" => both(&namespace),
        "source.principal" => both(&principal_name),
        "source.serviceAccount" => both(&|name| account(name, own_namespace)),
        "destination.ip" | "destination.port" | "connection.sni" => return Side::Permission,
        _ if reading == Reading::Connections => Vec::new(),
        key => match bracketed(key, "request.headers") {
            Some(name) => both(&|value| principal::Identifier::Header(header(name, value, false))),
            // What a token says: there is none.
            None => both(&|_| matches::nobody()),
        },
    })
}

fn of_permission(condition: &Condition) -> Vec<Permission> {
    let Condition { key, values, not_values } = condition;
    let test: Allowed = match key.as_str() {
        "destination.ip" => |block| permission::Rule::DestinationIp(cidr(block)),
        "destination.port" => |value| permission::Rule::DestinationPort(port(value)),
        _ => |value| permission::Rule::RequestedServerName(text(value, "", false)),
    };
    done(values, not_values, test)
}

#[cfg(test)]
mod tests;
