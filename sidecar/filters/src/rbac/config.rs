//! `envoy.config.rbac.v3.RBAC`.

use ipnet::IpNet;
use regex::Regex;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use weft_xds_proto::pb::envoy::config::rbac::v3::{
    MetadataSource, Permission, Policy as PbPolicy, Principal, Rbac, SourcedMetadata,
    permission::Rule as PbRule, principal::Identifier, rbac::Action as PbAction,
};
use weft_xds_proto::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use weft_xds_proto::pb::envoy::r#type::matcher::v3::{PathMatcher, path_matcher::Rule as PathRule};

use super::{Action, Policy, Rule, Rules};
use crate::config::{
    FieldError, Within, cidr, decode, header_matcher, metadata_matcher, path_template,
    state_matcher, string_matcher,
};

/// How deep rules may be nested.
const DEPTH: usize = 32;

/// Compiles rules.
pub(crate) fn rules(config: &Rbac) -> Result<Rules, FieldError> {
    let action = match PbAction::try_from(config.action) {
        Ok(PbAction::Allow) => Action::Allow,
        Ok(PbAction::Deny) => Action::Deny,
        Ok(PbAction::Log) => Action::Log,
        Err(_) => {
            let reason = format!("{} is not one of ALLOW, DENY, LOG", config.action);
            return Err(FieldError::at("action", reason));
        }
    };
    if config.audit_logging_options.is_some() {
        return Err(FieldError::unsupported("audit_logging_options"));
    }
    let mut sorted: Vec<_> = config.policies.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut policies = Vec::with_capacity(sorted.len());
    for (name, config) in sorted {
        policies.push(policy(name, config).within_key("policies", name)?);
    }
    Ok(Rules { action, policies })
}

fn policy(name: &str, config: &PbPolicy) -> Result<Policy, FieldError> {
    let refused = [
        (config.condition.is_some(), "condition"),
        (config.checked_condition.is_some(), "checked_condition"),
        (config.cel_config.is_some(), "cel_config"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    Ok(Policy {
        name: name.to_owned(),
        permissions: list(&config.permissions, "permissions", |one| permission(one, DEPTH))?,
        principals: list(&config.principals, "principals", |one| principal(one, DEPTH))?,
        decided: None,
    })
}

/// Compiles a list that must not be empty.
fn list<T>(
    configs: &[T],
    field: &str,
    compile: impl Fn(&T) -> Result<Rule, FieldError>,
) -> Result<Vec<Rule>, FieldError> {
    if configs.is_empty() {
        return Err(FieldError::missing(field));
    }
    let each = configs.iter().enumerate();
    each.map(|(index, one)| compile(one).within_item(field, index)).collect()
}

fn deeper(depth: usize) -> Result<usize, FieldError> {
    depth.checked_sub(1).ok_or_else(|| FieldError::new("is nested too deeply"))
}

#[expect(deprecated, reason = "control planes still send the older fields")]
fn permission(config: &Permission, depth: usize) -> Result<Rule, FieldError> {
    let depth = deeper(depth)?;
    let set = |rules: &[Permission]| list(rules, "rules", |one| permission(one, depth));
    Ok(match config.rule.as_ref().ok_or_else(|| FieldError::new("has no rule"))? {
        PbRule::AndRules(all) => Rule::All(set(&all.rules).within("and_rules")?),
        PbRule::OrRules(all) => Rule::AnyOf(set(&all.rules).within("or_rules")?),
        PbRule::NotRule(one) => Rule::Not(Box::new(permission(one, depth).within("not_rule")?)),
        PbRule::Any(true) => Rule::Any,
        PbRule::Any(false) => return Err(FieldError::at("any", "has to be true")),
        PbRule::Header(matcher) => Rule::Header(header_matcher(matcher).within("header")?),
        PbRule::UrlPath(matcher) => url_path(matcher).within("url_path")?,
        PbRule::DestinationIp(range) => Rule::DestinationIp(cidr(range).within("destination_ip")?),
        PbRule::DestinationPort(port) => match u16::try_from(*port).map(i32::from) {
            Ok(port) => Rule::DestinationPort(port..port + 1),
            Err(_) => return Err(FieldError::at("destination_port", "has to be below 65536")),
        },
        PbRule::DestinationPortRange(range) => {
            let fits = |port: i32| (0..=65536).contains(&port);
            if !fits(range.start) || !fits(range.end) || range.start >= range.end {
                let reason = "needs a start below its end, both from 0 to 65536";
                return Err(FieldError::at("destination_port_range", reason));
            }
            Rule::DestinationPort(range.start..range.end)
        }
        PbRule::Metadata(matcher) => Rule::Metadata(metadata_matcher(matcher).within("metadata")?),
        PbRule::SourcedMetadata(source) => sourced(source).within("sourced_metadata")?,
        PbRule::RequestedServerName(matcher) => {
            Rule::ServerName(string_matcher(matcher).within("requested_server_name")?)
        }
        PbRule::UriTemplate(extension) => template(extension).within("uri_template")?,
        PbRule::Matcher(_) => return Err(FieldError::unsupported("matcher")),
    })
}

#[expect(deprecated, reason = "control planes still send the older fields")]
fn principal(config: &Principal, depth: usize) -> Result<Rule, FieldError> {
    let depth = deeper(depth)?;
    let set = |ids: &[Principal]| list(ids, "ids", |one| principal(one, depth));
    let range = |range, field| -> Result<IpNet, FieldError> { cidr(range).within(field) };
    Ok(match config.identifier.as_ref().ok_or_else(|| FieldError::new("has no identifier"))? {
        Identifier::AndIds(all) => Rule::All(set(&all.ids).within("and_ids")?),
        Identifier::OrIds(all) => Rule::AnyOf(set(&all.ids).within("or_ids")?),
        Identifier::NotId(one) => Rule::Not(Box::new(principal(one, depth).within("not_id")?)),
        Identifier::Any(true) => Rule::Any,
        Identifier::Any(false) => return Err(FieldError::at("any", "has to be true")),
        Identifier::Authenticated(one) => {
            let name = one.principal_name.as_ref().map(string_matcher).transpose();
            Rule::Authenticated(name.within("authenticated.principal_name")?)
        }
        Identifier::SourceIp(one) => Rule::DirectRemoteIp(range(one, "source_ip")?),
        Identifier::DirectRemoteIp(one) => Rule::DirectRemoteIp(range(one, "direct_remote_ip")?),
        Identifier::RemoteIp(one) => Rule::RemoteIp(range(one, "remote_ip")?),
        Identifier::Header(matcher) => Rule::Header(header_matcher(matcher).within("header")?),
        Identifier::UrlPath(matcher) => url_path(matcher).within("url_path")?,
        Identifier::Metadata(matcher) => {
            Rule::Metadata(metadata_matcher(matcher).within("metadata")?)
        }
        Identifier::SourcedMetadata(source) => sourced(source).within("sourced_metadata")?,
        Identifier::FilterState(matcher) => {
            Rule::State(state_matcher(matcher).within("filter_state")?)
        }
        Identifier::Custom(_) => return Err(FieldError::unsupported("custom")),
    })
}

fn url_path(config: &PathMatcher) -> Result<Rule, FieldError> {
    match &config.rule {
        Some(PathRule::Path(matcher)) => Ok(Rule::Path(string_matcher(matcher).within("path")?)),
        None => Err(FieldError::missing("path")),
    }
}

fn sourced(config: &SourcedMetadata) -> Result<Rule, FieldError> {
    if config.metadata_source != MetadataSource::Dynamic as i32 {
        return Err(FieldError::at("metadata_source", "only DYNAMIC is supported yet"));
    }
    let matcher = config.metadata_matcher.as_ref();
    let matcher = matcher.ok_or_else(|| FieldError::missing("metadata_matcher"))?;
    Ok(Rule::Metadata(metadata_matcher(matcher).within("metadata_matcher")?))
}

fn template(extension: &TypedExtensionConfig) -> Result<Rule, FieldError> {
    let any = extension.typed_config.as_ref();
    let any = any.ok_or_else(|| FieldError::missing("typed_config"))?;
    let config: UriTemplateMatchConfig = decode(any).within("typed_config")?;
    let expression = path_template(&config.path_template).within("path_template");
    let expression = expression.within("typed_config")?;
    let regex = Regex::new(&expression);
    Ok(Rule::Template(regex.map_err(|error| FieldError::new(error.to_string()))?))
}
