//! Role-based access control, for requests and for connections (`envoy.config.rbac.v3`).

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;
use regex::Regex;
use weft_filter_api::ConnectionFacts;
use weft_route::{HeaderField, HeaderMatcher, HeaderTest, RequestView, StringMatcher};
use weft_telemetry::{Annotations, Counter, Scope};

use crate::values::{MetadataMatcher, StateMatcher};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// Where `access_log_hint` stands.
const COMMON: &str = "envoy.common";

/// `RBAC`, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    action: Action,
    /// Sorted by name, as they are tried.
    policies: Vec<Policy>,
}

/// `RBAC.Action`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// What a policy matches is allowed.
    Allow,
    /// What a policy matches is denied.
    Deny,
    /// Everything is allowed; what a policy matches is marked.
    Log,
}

/// `Policy`
#[derive(Clone, Debug)]
struct Policy {
    name: String,
    permissions: Vec<Rule>,
    principals: Vec<Rule>,
    /// Counts when the policy decided, for enforced rules and shadow rules alike.
    decided: Option<Counter>,
}

/// A `Permission` or a `Principal`: what is done and who does it are asked of the same facts.
#[derive(Clone, Debug)]
enum Rule {
    Any,
    All(Vec<Self>),
    AnyOf(Vec<Self>),
    Not(Box<Self>),
    Header(HeaderMatcher),
    /// `url_path`: without query and fragment.
    Path(StringMatcher),
    /// `uri_template`, as an expression for the same.
    Template(Regex),
    DestinationIp(IpNet),
    DestinationPort(Range<i32>),
    ServerName(StringMatcher),
    Metadata(MetadataMatcher),
    /// `authenticated`; without a name: any client of a TLS connection.
    Authenticated(Option<StringMatcher>),
    /// `direct_remote_ip`, and `source_ip`, which means the same.
    DirectRemoteIp(IpNet),
    RemoteIp(IpNet),
    State(StateMatcher),
}

/// What is judged.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) connection: &'a ConnectionFacts,
    /// The client, as the connection manager determined it.
    pub(crate) remote: SocketAddr,
    /// `None` for a connection.
    pub(crate) request: Option<&'a RequestView<'a>>,
    /// Of the stream or the connection.
    pub(crate) annotations: Option<&'a Annotations>,
}

/// What rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict<'a> {
    pub(crate) allowed: bool,
    /// The policy that matched.
    pub(crate) policy: Option<&'a str>,
    /// `access_log_hint`, of rules with the action `LOG`.
    log: Option<bool>,
}

/// `allowed`, `denied`, or the same with `shadow_`.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    allowed: Counter,
    denied: Counter,
}

impl Counts {
    /// Registers both below `rbac.<prefix>`.
    pub(crate) fn new(scope: &Scope, shadow: bool, prefix: &str) -> Self {
        let base = stat_base(prefix);
        let shadow = if shadow { "shadow_" } else { "" };
        Self {
            allowed: scope.counter(&format!("{base}{shadow}allowed")),
            denied: scope.counter(&format!("{base}{shadow}denied")),
        }
    }

    pub(crate) fn count(&self, verdict: &Verdict<'_>) {
        if verdict.allowed { self.allowed.inc() } else { self.denied.inc() }
    }
}

/// `rbac.`, with a prefix `rbac.<prefix>.`, as Envoy joins them.
fn stat_base(prefix: &str) -> String {
    match prefix.trim_end_matches('.') {
        "" => "rbac.".to_owned(),
        prefix => format!("rbac.{prefix}."),
    }
}

impl Verdict<'_> {
    /// `%RESPONSE_CODE_DETAILS%` of a denial.
    pub(crate) fn details(&self) -> String {
        let name = self.policy.unwrap_or("none");
        let name: String = name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
        format!("rbac_access_denied_matched_policy[{name}]")
    }

    /// Writes the verdict to dynamic metadata; `kind` is `enforced` or `shadow`.
    pub(crate) fn annotate(
        &self,
        all: &mut Annotations,
        namespace: &str,
        prefix: &str,
        kind: &str,
    ) {
        if let Some(policy) = self.policy {
            all.set(namespace, &format!("{prefix}{kind}_effective_policy_id"), policy);
        }
        let result = if self.allowed { "allowed" } else { "denied" };
        all.set(namespace, &format!("{prefix}{kind}_engine_result"), result);
    }

    /// Writes the hint for access logs, where there is one.
    pub(crate) fn hint(&self, all: &mut Annotations) {
        if let Some(log) = self.log {
            all.set(COMMON, "access_log_hint", log);
        }
    }
}

impl Rules {
    /// Counts for each policy how often it decided, below `rbac.<prefix>.policy.<name>`.
    pub(crate) fn track(&mut self, scope: &Scope, shadow: bool, prefix: &str) {
        let base = stat_base(prefix);
        let shadow = if shadow { "shadow_" } else { "" };
        let decision = if self.action == Action::Deny { "denied" } else { "allowed" };
        for policy in &mut self.policies {
            let name = format!("{base}policy.{}.{shadow}{decision}", policy.name);
            policy.decided = Some(scope.counter(&name));
        }
    }

    /// Judges; the first policy by name that matches is named.
    pub(crate) fn judge(&self, subject: &Subject<'_>) -> Verdict<'_> {
        let matched = self.policies.iter().find(|policy| policy.matches(subject));
        if let Some(decided) = matched.and_then(|policy| policy.decided.as_ref()) {
            decided.inc();
        }
        let (allowed, log) = match self.action {
            Action::Allow => (matched.is_some(), None),
            Action::Deny => (matched.is_none(), None),
            Action::Log => (true, Some(matched.is_some())),
        };
        Verdict { allowed, policy: matched.map(|policy| policy.name.as_str()), log }
    }
}

impl Policy {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.permissions.iter().any(|rule| rule.matches(subject))
            && self.principals.iter().any(|rule| rule.matches(subject))
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let connection = subject.connection;
        match self {
            Self::Any => true,
            Self::All(rules) => rules.iter().all(|rule| rule.matches(subject)),
            Self::AnyOf(rules) => rules.iter().any(|rule| rule.matches(subject)),
            Self::Not(rule) => !rule.matches(subject),
            Self::Header(matcher) => match subject.request {
                Some(request) => matcher.holds(request),
                None => holds_without_request(matcher),
            },
            Self::Path(matcher) => subject.request.is_some_and(|r| matcher.matches(r.path)),
            Self::Template(regex) => subject.request.is_some_and(|r| regex.is_match(r.path)),
            Self::DestinationIp(range) => contains(range, connection.local.ip()),
            Self::DestinationPort(range) => range.contains(&i32::from(connection.local.port())),
            // Without a server name it is empty.
            Self::ServerName(matcher) => {
                matcher.matches(connection.server_name.as_deref().unwrap_or_default())
            }
            Self::Metadata(matcher) => matcher.matches(subject.annotations),
            Self::Authenticated(name) => authenticated(connection, name.as_ref()),
            Self::DirectRemoteIp(range) => contains(range, connection.remote.ip()),
            Self::RemoteIp(range) => contains(range, subject.remote.ip()),
            Self::State(matcher) => {
                matcher.matches([subject.annotations, connection.annotations.as_deref()])
            }
        }
    }
}

fn contains(range: &IpNet, ip: IpAddr) -> bool {
    range.contains(&ip)
}

/// On a connection every header is absent.
fn holds_without_request(matcher: &HeaderMatcher) -> bool {
    let empty = http::HeaderMap::new();
    let view = RequestView {
        method: &http::Method::GET,
        scheme: "",
        authority: "",
        path: "",
        query: None,
        headers: &empty,
        random: 0,
        around: None,
    };
    match (&matcher.field, &matcher.test) {
        (HeaderField::Name(_), _) => matcher.holds(&view),
        (_, HeaderTest::Present(wanted)) => *wanted == matcher.invert,
        _ => false,
    }
}

/// A client is known by its URI names, its DNS names or its subject.
fn authenticated(connection: &ConnectionFacts, name: Option<&StringMatcher>) -> bool {
    let Some(tls) = &connection.tls else { return false };
    let Some(name) = name else { return true };
    let Some(peer) = &tls.peer else { return name.matches("") };
    let names = peer.uri_sans.iter().chain(&peer.dns_sans).chain(std::iter::once(&peer.subject));
    names.into_iter().any(|one| name.matches(one))
}
