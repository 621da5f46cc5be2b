//! What a route matches, for route tables and for filters with rules of their own.

use weft_route::{Conditions, PathMatch};
use weft_xds_proto::pb::envoy::config::route::v3::{RouteMatch, route_match::PathSpecifier};

use super::{FieldError, Within, full_regex, header_matcher, query_matcher, runtime_fraction};

/// A `RouteMatch`.
///
/// # Errors
/// A field that is not supported, a broken expression, no path.
pub fn route_match(config: &RouteMatch) -> Result<(PathMatch, Conditions), FieldError> {
    let refused = [
        (!config.cookies.is_empty(), "cookies"),
        (config.tls_context.is_some(), "tls_context"),
        (!config.dynamic_metadata.is_empty(), "dynamic_metadata"),
        (!config.filter_state.is_empty(), "filter_state"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let mut conditions = Conditions { grpc: config.grpc.is_some(), ..Conditions::default() };
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
        Some(Spec::PathMatchPolicy(_)) => return Err(FieldError::unsupported("path_match_policy")),
    })
}
