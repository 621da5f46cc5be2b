//! `http.jwt_authn.v3.JwtAuthentication` and `PerRouteConfig`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use parking_lot::Mutex;
use tokio::sync::Notify;
use weft_filter_api::RouteFilterConfig;
use weft_telemetry::Counter;
use weft_xds_proto::pb::envoy::config::core::v3::DataSource;
use weft_xds_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtProvider, JwtRequirement, PerRouteConfig, RemoteJwks,
    RequirementRule, jwt_provider::JwksSourceSpecifier, jwt_requirement::RequiresType,
    per_route_config::RequirementSpecifier, requirement_rule::RequirementType,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::claims::ClaimToHeader;
use super::keys::KeySet;
use super::location::Location;
use super::provider::{Keys, Provider};
use super::remote::Remote;
use super::requirement::Requirement;
use super::{JwtAuthn, PerRoute, Rule, Stats};
use crate::config::{
    FieldError, Within, data_source, decode, duration, header_name, http_uri, opt_duration,
    route_match, string_matcher,
};
use crate::{FilterCx, HttpFilterKind};

/// `clock_skew_seconds` when it is not set.
const SKEW: u32 = 60;
/// `cache_duration` when it is not set.
const LIFETIME: Duration = Duration::from_secs(600);
/// `failed_refetch_duration` when it is not set.
const PAUSE: Duration = Duration::from_secs(1);
/// How deep requirements may be nested.
const DEPTH: usize = 16;

/// The providers' names in the order of the filter's list.
type Names<'a> = [&'a String];

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: JwtAuthentication = decode(config)?;
    if config.filter_state_rules.is_some() {
        return Err(FieldError::unsupported("filter_state_rules"));
    }
    let mut sorted: Vec<_> = config.providers.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let names: Vec<_> = sorted.iter().map(|(name, _)| *name).collect();
    let mut providers = Vec::with_capacity(sorted.len());
    let prefix = match config.stat_prefix.trim_end_matches('.') {
        "" => "jwt_authn".to_owned(),
        prefix => format!("jwt_authn.{prefix}"),
    };
    let counter = |name: &str| cx.scope().counter(&format!("{prefix}.{name}"));
    for (name, one) in &sorted {
        providers.push(provider(one, &counter).within_key("providers", name)?);
    }
    let named = named(&config.requirement_map, &names)?;
    let mut rules = Vec::with_capacity(config.rules.len());
    for (index, one) in config.rules.iter().enumerate() {
        rules.push(rule(one, &named, &names).within_item("rules", index)?);
    }
    Ok(HttpFilterKind::Filter(Arc::new(JwtAuthn {
        remote: providers.iter().any(|one| matches!(one.keys, Keys::Remote(_))),
        providers,
        rules,
        named,
        bypass_preflight: config.bypass_cors_preflight,
        strip_failure: config.strip_failure_response,
        stats: Stats {
            allowed: counter("allowed"),
            denied: counter("denied"),
            preflight_bypassed: counter("cors_preflight_bypassed"),
        },
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: PerRouteConfig = decode(config)?;
    match config.requirement_specifier {
        Some(RequirementSpecifier::Disabled(true)) => Ok(Arc::new(PerRoute::Disabled)),
        Some(RequirementSpecifier::RequirementName(name)) if !name.is_empty() => {
            Ok(Arc::new(PerRoute::Named(name)))
        }
        _ => Err(FieldError::new("give disabled: true or requirement_name")),
    }
}

fn named(
    configs: &HashMap<String, JwtRequirement>,
    names: &Names<'_>,
) -> Result<BTreeMap<String, Requirement>, FieldError> {
    let mut named = BTreeMap::new();
    for (name, config) in configs.iter().collect::<BTreeMap<_, _>>() {
        let compiled = requirement(config, names, DEPTH).within_key("requirement_map", name)?;
        named.insert(name.clone(), compiled);
    }
    Ok(named)
}

fn rule(
    config: &RequirementRule,
    named: &BTreeMap<String, Requirement>,
    names: &Names<'_>,
) -> Result<Rule, FieldError> {
    let matched = config.r#match.as_ref().ok_or_else(|| FieldError::missing("match"))?;
    let (path, conditions) = route_match(matched).within("match")?;
    let requirement = match &config.requirement_type {
        None => None,
        // An empty requirement requires nothing.
        Some(RequirementType::Requires(one)) if one.requires_type.is_none() => None,
        Some(RequirementType::Requires(one)) => {
            Some(requirement(one, names, DEPTH).within("requires")?)
        }
        Some(RequirementType::RequirementName(name)) => {
            Some(named.get(name).cloned().ok_or_else(|| {
                let reason = format!("{name:?} is not in requirement_map");
                FieldError::at("requirement_name", reason)
            })?)
        }
    };
    Ok(Rule { path, conditions, requirement: requirement.map(Arc::new) })
}

fn requirement(
    config: &JwtRequirement,
    names: &Names<'_>,
    depth: usize,
) -> Result<Requirement, FieldError> {
    let deeper = depth.checked_sub(1).ok_or_else(|| FieldError::new("is nested too deeply"))?;
    let place = |name: &String| {
        names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| FieldError::at("provider_name", format!("{name:?} is not in providers")))
    };
    let list = |all: &[JwtRequirement], field: &str| -> Result<Vec<Requirement>, FieldError> {
        if all.len() < 2 {
            return Err(FieldError::at(field, "has to have two requirements or more"));
        }
        let each = all.iter().enumerate();
        let each = each.map(|(index, one)| {
            requirement(one, names, deeper).within_item("requirements", index).within(field)
        });
        each.collect()
    };
    Ok(match &config.requires_type {
        None => return Err(FieldError::new("requires nothing")),
        Some(RequiresType::ProviderName(name)) => {
            Requirement::Provider { provider: place(name)?, audiences: None }
        }
        Some(RequiresType::ProviderAndAudiences(both)) => {
            let provider = place(&both.provider_name).within("provider_and_audiences")?;
            let audiences = Some(both.audiences.clone()).filter(|all| !all.is_empty());
            Requirement::Provider { provider, audiences }
        }
        Some(RequiresType::RequiresAny(any)) => {
            Requirement::Any(list(&any.requirements, "requires_any")?)
        }
        Some(RequiresType::RequiresAll(all)) => {
            Requirement::All(list(&all.requirements, "requires_all")?)
        }
        Some(RequiresType::AllowMissing(_)) => Requirement::AllowMissing,
        Some(RequiresType::AllowMissingOrFailed(_)) => Requirement::AllowMissingOrFailed,
        Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
            return Err(FieldError::unsupported("extract_only_without_validation"));
        }
    })
}

fn provider(
    config: &JwtProvider,
    counter: &dyn Fn(&str) -> Counter,
) -> Result<Provider, FieldError> {
    let keys = match &config.jwks_source_specifier {
        Some(JwksSourceSpecifier::LocalJwks(source)) => {
            Keys::Local(local_keys(source).within("local_jwks")?)
        }
        Some(JwksSourceSpecifier::RemoteJwks(one)) => {
            Keys::Remote(Arc::new(remote(one, counter).within("remote_jwks")?))
        }
        None => return Err(FieldError::missing("local_jwks")),
    };
    let mut claims = Vec::with_capacity(config.claim_to_headers.len());
    for (index, one) in config.claim_to_headers.iter().enumerate() {
        claims.push(claim_to_header(one).within_item("claim_to_headers", index)?);
    }
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let payload_header = given(&config.forward_payload_header)
        .map(|name| header_name(&name))
        .transpose()
        .within("forward_payload_header")?;
    let longest = config.max_lifetime.as_ref().map(duration).transpose().within("max_lifetime")?;
    let skew = if config.clock_skew_seconds == 0 { SKEW } else { config.clock_skew_seconds };
    let spaced = config.normalize_payload_in_metadata.as_ref();
    Ok(Provider {
        issuer: config.issuer.clone(),
        audiences: config.audiences.clone(),
        subjects: config.subjects.as_ref().map(string_matcher).transpose().within("subjects")?,
        require_expiration: config.require_expiration,
        max_lifetime: longest.map(|longest| longest.as_secs_f64()),
        skew: skew.into(),
        keys,
        locations: locations(config)?,
        forward: config.forward,
        payload_header: payload_header.map(|name| (name, config.pad_forward_payload_header)),
        claims,
        payload_field: given(&config.payload_in_metadata),
        spaced: spaced.map(|all| all.space_delimited_claims.clone()).unwrap_or_default(),
        header_field: given(&config.header_in_metadata),
        failure_field: given(&config.failed_status_in_metadata),
        clear_route: config.clear_route_cache,
    })
}

fn local_keys(source: &DataSource) -> Result<KeySet, FieldError> {
    let (field, json) = data_source(source)?;
    KeySet::read(&json)
        .map_err(|reason| FieldError::at(field, format!("is not a key set: {reason}")))
}

fn remote(config: &RemoteJwks, counter: &dyn Fn(&str) -> Counter) -> Result<Remote, FieldError> {
    let target = config.http_uri.as_ref().ok_or_else(|| FieldError::missing("http_uri"))?;
    let lifetime = opt_duration(config.cache_duration.as_ref(), "cache_duration")?;
    let fetch = config.async_fetch.as_ref();
    let pause = fetch.and_then(|fetch| fetch.failed_refetch_duration.as_ref());
    let pause = opt_duration(pause, "failed_refetch_duration").within("async_fetch")?;
    Ok(Remote {
        target: http_uri(target).within("http_uri")?,
        lifetime: lifetime.filter(|time| !time.is_zero()).unwrap_or(LIFETIME),
        pause: pause.filter(|time| !time.is_zero()).unwrap_or(PAUSE),
        fetched: counter("jwks_fetch_success"),
        failed: counter("jwks_fetch_failed"),
        state: Mutex::default(),
        done: Notify::new(),
    })
}

fn claim_to_header(config: &JwtClaimToHeader) -> Result<ClaimToHeader, FieldError> {
    let header = header_name(&config.header_name).within("header_name")?;
    let path: Vec<String> = if config.claim_path.is_empty() {
        config.claim_name.split('.').map(str::to_owned).collect()
    } else {
        config.claim_path.iter().map(|segment| segment.key.clone()).collect()
    };
    if path.iter().any(String::is_empty) {
        return Err(FieldError::missing("claim_name"));
    }
    Ok(ClaimToHeader { header, path })
}

fn locations(config: &JwtProvider) -> Result<Vec<Location>, FieldError> {
    let mut locations = Vec::new();
    for (index, one) in config.from_headers.iter().enumerate() {
        let name = header_name(&one.name).within("name").within_item("from_headers", index)?;
        locations.push(Location::Header { name, prefix: one.value_prefix.clone() });
    }
    locations.extend(config.from_params.iter().cloned().map(Location::Query));
    locations.extend(config.from_cookies.iter().cloned().map(Location::Cookie));
    if locations.is_empty() {
        let name = HeaderName::from_static("authorization");
        locations.push(Location::Header { name, prefix: "Bearer ".to_owned() });
        locations.push(Location::Query("access_token".to_owned()));
    }
    Ok(locations)
}
