//! The matchers of which policies are made.

use weft_control_model::authorization::range;
use weft_xds_proto::pb::envoy::config::core::v3::CidrRange;
use weft_xds_proto::pb::envoy::config::rbac::v3::{Permission, Principal, permission, principal};
use weft_xds_proto::pb::envoy::config::route::v3::{
    HeaderMatcher, header_matcher::HeaderMatchSpecifier,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::{
    PathMatcher, RegexMatcher, StringMatcher, path_matcher, string_matcher::MatchPattern,
};

use crate::envoy::number;

/// The scheme of identities, which policies leave out.
const SPIFFE: &str = "spiffe://";

pub(super) fn principal(identifier: principal::Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

pub(super) fn permission(rule: permission::Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// All of them; none is anybody.
pub(super) fn all_of(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        0 => principal(principal::Identifier::Any(true)),
        1 => ids.remove(0),
        _ => principal(principal::Identifier::AndIds(principal::Set { ids })),
    }
}

/// One of them.
pub(super) fn any_of(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        1 => ids.remove(0),
        _ => principal(principal::Identifier::OrIds(principal::Set { ids })),
    }
}

pub(super) fn not(id: Principal) -> Principal {
    principal(principal::Identifier::NotId(Box::new(id)))
}

/// A caller that there is not.
pub(super) fn nobody() -> principal::Identifier {
    principal::Identifier::NotId(Box::new(principal(principal::Identifier::Any(true))))
}

/// All of them; none is anything.
pub(super) fn all_permissions(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        0 => permission(permission::Rule::Any(true)),
        1 => rules.remove(0),
        _ => permission(permission::Rule::AndRules(permission::Set { rules })),
    }
}

/// One of them.
pub(super) fn any_permission(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        1 => rules.remove(0),
        _ => permission(permission::Rule::OrRules(permission::Set { rules })),
    }
}

pub(super) fn not_permission(rule: Permission) -> Permission {
    permission(permission::Rule::NotRule(Box::new(rule)))
}

/// A proven identity, as `cluster.local/ns/shop/sa/web`.
pub(super) fn principal_name(value: &str) -> principal::Identifier {
    authenticated(text(value, SPIFFE, false))
}

/// A proven identity of a namespace.
pub(super) fn namespace(value: &str) -> principal::Identifier {
    authenticated(match value.contains('*') {
        false => matcher(MatchPattern::Contains(format!("/ns/{value}/")), false),
        true => {
            let name: Vec<_> = value.split('*').map(escaped).collect();
            regex(&format!(".*/ns/{}/.*", name.join("[^/]*")))
        }
    })
}

/// A proven identity of a service account: `namespace/account`, or one of the policy's namespace.
pub(super) fn account(value: &str, own_namespace: &str) -> principal::Identifier {
    let (namespace, account) = value.split_once('/').unwrap_or((own_namespace, value));
    let suffix = format!("/ns/{namespace}/sa/{account}");
    authenticated(matcher(MatchPattern::Suffix(suffix), false))
}

fn authenticated(name: StringMatcher) -> principal::Identifier {
    let principal_name = Some(name);
    principal::Identifier::Authenticated(principal::Authenticated { principal_name })
}

/// A range that the model has checked.
pub(super) fn cidr(text: &str) -> CidrRange {
    let (address, length) = range(text).unwrap_or(([0, 0, 0, 0].into(), 32));
    CidrRange { address_prefix: address.to_string(), prefix_len: Some(number(u32::from(length))) }
}

/// A port that the model has checked.
pub(super) fn port(text: &str) -> u32 {
    text.parse::<u16>().map(u32::from).unwrap_or_default()
}

pub(super) fn path(value: &str) -> PathMatcher {
    PathMatcher { rule: Some(path_matcher::Rule::Path(text(value, "", false))) }
}

/// A header; `*` stands for any value.
pub(super) fn header(name: &str, value: &str, ignore_case: bool) -> HeaderMatcher {
    let specifier = match value {
        "*" => HeaderMatchSpecifier::PresentMatch(true),
        _ => HeaderMatchSpecifier::StringMatch(text(value, "", ignore_case)),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

/// A text: `*` for any that is not empty, `*end`, `start*`, or all of it; what stands at the start is
/// written behind `before`.
pub(super) fn text(value: &str, before: &str, ignore_case: bool) -> StringMatcher {
    let pattern = match (value.strip_prefix('*'), value.strip_suffix('*')) {
        _ if value == "*" => return regex(".+"),
        (Some(end), _) => MatchPattern::Suffix(end.to_owned()),
        (None, Some(start)) => MatchPattern::Prefix(format!("{before}{start}")),
        (None, None) => MatchPattern::Exact(format!("{before}{value}")),
    };
    matcher(pattern, ignore_case)
}

fn regex(pattern: &str) -> StringMatcher {
    let regex = RegexMatcher { regex: pattern.to_owned(), ..Default::default() };
    matcher(MatchPattern::SafeRegex(regex), false)
}

fn matcher(pattern: MatchPattern, ignore_case: bool) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ignore_case }
}

/// A text in which no character means anything to an expression.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| (!c.is_alphanumeric()).then_some('\\').into_iter().chain([c]))
        .collect()
}
