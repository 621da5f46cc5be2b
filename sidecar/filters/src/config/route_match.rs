//! What a route matches, for route tables and for filters with rules of their own.

use std::sync::Arc;

use weft_route::{Beyond, Conditions, CookieMatcher, PathMatch};
use weft_xds_proto::pb::envoy::config::route::v3::{
    CookieMatcher as PbCookie, RouteMatch, route_match::PathSpecifier,
};

use super::templates::template;
use super::{
    FieldError, Within, full_regex, header_matcher, metadata_matcher, query_matcher,
    runtime_fraction, state_matcher, string_matcher,
};
use crate::conditions::StreamCondition;

/// A `RouteMatch`.
///
/// # Errors
/// A field that is not supported, a broken expression, no path.
pub fn route_match(config: &RouteMatch) -> Result<(PathMatch, Conditions), FieldError> {
    let mut conditions = Conditions {
        grpc: config.grpc.is_some(),
        beyond: beyond(config)?,
        ..Conditions::default()
    };
    for (index, matcher) in config.cookies.iter().enumerate() {
        conditions.cookies.push(cookie_matcher(matcher).within_item("cookies", index)?);
    }
    for (index, matcher) in config.headers.iter().enumerate() {
        conditions.headers.push(header_matcher(matcher).within_item("headers", index)?);
    }
    for (index, matcher) in config.query_parameters.iter().enumerate() {
        conditions.query.push(query_matcher(matcher).within_item("query_parameters", index)?);
    }
    if let Some(fraction) = &config.runtime_fraction {
        conditions.fraction = runtime_fraction(fraction).within("runtime_fraction")?;
    }
    Ok((path(config)?, conditions))
}

fn cookie_matcher(config: &PbCookie) -> Result<CookieMatcher, FieldError> {
    if config.name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    let test = config.string_match.as_ref().ok_or_else(|| FieldError::missing("string_match"))?;
    let test = string_matcher(test).within("string_match")?;
    Ok(CookieMatcher { name: config.name.clone(), test, invert: config.invert_match })
}

/// Conditions on metadata, filter state and the client's certificate.
fn beyond(config: &RouteMatch) -> Result<Vec<Arc<dyn Beyond>>, FieldError> {
    let mut all = Vec::new();
    for (index, matcher) in config.dynamic_metadata.iter().enumerate() {
        let matcher = metadata_matcher(matcher).within_item("dynamic_metadata", index)?;
        all.push(StreamCondition::Metadata(matcher));
    }
    for (index, matcher) in config.filter_state.iter().enumerate() {
        let matcher = state_matcher(matcher).within_item("filter_state", index)?;
        all.push(StreamCondition::State(matcher));
    }
    if let Some(tls) = &config.tls_context {
        // A certificate that can't be verified ends the handshake: one that is there is valid.
        let flags = [tls.presented.as_ref(), tls.validated.as_ref()];
        let wanted = flags.into_iter().flatten();
        all.extend(wanted.map(|flag| StreamCondition::Certificate(flag.value)));
    }
    Ok(all.into_iter().map(|one| Arc::new(one) as Arc<dyn Beyond>).collect())
}

fn path(config: &RouteMatch) -> Result<PathMatch, FieldError> {
    use PathSpecifier as Spec;
    let ignore_case = config.case_sensitive.as_ref().is_some_and(|flag| !flag.value);
    Ok(match &config.path_specifier {
        None => {
            return Err(FieldError::new(
                "matches no path: give prefix, path, path_separated_prefix or safe_regex",
            ));
        }
        Some(Spec::Prefix(text)) => PathMatch::Prefix { text: text.clone(), ignore_case },
        Some(Spec::Path(text)) => PathMatch::Exact { text: text.clone(), ignore_case },
        Some(Spec::PathSeparatedPrefix(text)) => {
            if !text.starts_with('/') || text.ends_with('/') || text.contains(['?', '#']) {
                let reason =
                    format!("{text:?}: a prefix like /a/b is wanted, without / at its end");
                return Err(FieldError::at("path_separated_prefix", reason));
            }
            PathMatch::Separated { text: text.clone(), ignore_case }
        }
        Some(Spec::SafeRegex(regex)) => {
            PathMatch::Regex(full_regex(&regex.regex).within("safe_regex")?)
        }
        Some(Spec::ConnectMatcher(_)) => PathMatch::Connect,
        Some(Spec::PathMatchPolicy(policy)) => {
            PathMatch::Regex(template(policy).within("path_match_policy")?)
        }
    })
}
