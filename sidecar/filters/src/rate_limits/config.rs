//! `route.v3.RateLimit`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_route::Conditions;
use weft_xds_proto::pb::envoy::config::route::v3::RateLimit as PbLimit;
use weft_xds_proto::pb::envoy::config::route::v3::rate_limit::{
    Action as PbAction,
    action::{ActionSpecifier, meta_data::Source},
};
use weft_xds_proto::pb::envoy::r#type::metadata::v3::{MetadataKey, metadata_key::path_segment};

use super::{Action, RateLimit, RouteLimits};
use crate::config::{FieldError, Within, header_matcher, header_name, query_matcher};

/// The highest stage.
const STAGES: u32 = 10;

/// The limits of a route, for the filters that count; `cluster`: of this proxy.
///
/// # Errors
/// An action that is not supported or wrong.
pub fn compile_rate_limits(
    route: &[PbLimit],
    host: &[PbLimit],
    include_host: bool,
    cluster: &str,
) -> Result<RouteFilterConfig, FieldError> {
    let compile = |limits: &[PbLimit]| rate_limits(limits, cluster);
    Ok(Arc::new(RouteLimits { route: compile(route)?, host: compile(host)?, include_host }))
}

/// The limits in a field `rate_limits`.
pub(crate) fn rate_limits(
    configs: &[PbLimit],
    cluster: &str,
) -> Result<Vec<RateLimit>, FieldError> {
    each(configs, "rate_limits", |one| rate_limit(one, cluster))
}

fn each<T, U>(
    all: &[T],
    field: &str,
    compile: impl Fn(&T) -> Result<U, FieldError>,
) -> Result<Vec<U>, FieldError> {
    let indexed = all.iter().enumerate();
    indexed.map(|(index, one)| compile(one).within_item(field, index)).collect()
}

fn rate_limit(config: &PbLimit, cluster: &str) -> Result<RateLimit, FieldError> {
    let hits = config.hits_addend.as_ref();
    let refused = [
        (config.limit.is_some(), "limit"),
        (hits.is_some_and(|hits| !hits.format.is_empty()), "hits_addend.format"),
        (config.apply_on_stream_done, "apply_on_stream_done"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let stage = config.stage.as_ref().map_or(0, |stage| stage.value);
    if stage > STAGES {
        return Err(FieldError::at("stage", "has to be 10 or less"));
    }
    Ok(RateLimit {
        stage,
        actions: each(&config.actions, "actions", |one| action(one, cluster))?,
        hits: hits.and_then(|hits| hits.number).map(|number| number.value),
    })
}

fn action(config: &PbAction, cluster: &str) -> Result<Action, FieldError> {
    use ActionSpecifier as Spec;
    let key = |given: &str, usual: &str| if given.is_empty() { usual } else { given }.to_owned();
    Ok(match config.action_specifier.as_ref().ok_or_else(|| FieldError::new("is empty"))? {
        Spec::SourceCluster(_) => Action::SourceCluster(cluster.to_owned()),
        Spec::DestinationCluster(_) => Action::DestinationCluster,
        Spec::RequestHeaders(one) => Action::Header {
            name: header_name(&one.header_name).within("request_headers.header_name")?,
            key: one.descriptor_key.clone(),
            skip: one.skip_if_absent,
        },
        Spec::QueryParameters(one) => Action::Query {
            name: one.query_parameter_name.clone(),
            key: one.descriptor_key.clone(),
            skip: one.skip_if_absent,
        },
        Spec::RemoteAddress(_) => Action::Client,
        Spec::MaskedRemoteAddress(one) => {
            let length = |value: Option<u32>, usual: u8| -> Result<u8, FieldError> {
                let value = value.unwrap_or_else(|| usual.into());
                let value = u8::try_from(value).ok().filter(|value| *value <= usual);
                value.ok_or_else(|| FieldError::at("masked_remote_address", "a mask is too long"))
            };
            Action::MaskedClient(
                length(one.v4_prefix_mask_len.as_ref().map(|len| len.value), 32)?,
                length(one.v6_prefix_mask_len.as_ref().map(|len| len.value), 128)?,
            )
        }
        Spec::GenericKey(one) => {
            Action::Fixed((key(&one.descriptor_key, "generic_key"), one.descriptor_value.clone()))
        }
        Spec::HeaderValueMatch(one) => Action::Headers {
            entry: (key(&one.descriptor_key, "header_match"), one.descriptor_value.clone()),
            matchers: each(&one.headers, "headers", header_matcher).within("header_value_match")?,
            expect: one.expect_match.as_ref().is_none_or(|flag| flag.value),
        },
        Spec::QueryParameterValueMatch(one) => Action::Queries {
            entry: (key(&one.descriptor_key, "query_match"), one.descriptor_value.clone()),
            conditions: Box::new(Conditions {
                query: each(&one.query_parameters, "query_parameters", query_matcher)
                    .within("query_parameter_value_match")?
                    .into(),
                ..Conditions::default()
            }),
            expect: one.expect_match.as_ref().is_none_or(|flag| flag.value),
        },
        Spec::Metadata(one) if one.source == Source::Dynamic as i32 => {
            let (namespace, path) = place(one.metadata_key.as_ref()).within("metadata")?;
            Action::Metadata {
                namespace,
                path,
                key: one.descriptor_key.clone(),
                usual: one.default_value.clone(),
                skip: one.skip_if_absent,
            }
        }
        _ => return Err(FieldError::new("this kind of action is not supported yet")),
    })
}

fn place(key: Option<&MetadataKey>) -> Result<(String, Vec<String>), FieldError> {
    let key = key.ok_or_else(|| FieldError::missing("metadata_key"))?;
    let segments = key.path.iter().map(|segment| match &segment.segment {
        Some(path_segment::Segment::Key(key)) => Ok(key.clone()),
        Some(path_segment::Segment::Index(_)) => Err(FieldError::unsupported("metadata_key.path")),
        None => Err(FieldError::missing("metadata_key.path")),
    });
    Ok((key.key.clone(), segments.collect::<Result<_, _>>()?))
}
