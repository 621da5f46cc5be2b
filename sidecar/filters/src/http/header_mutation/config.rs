//! `header_mutation.v3.HeaderMutation` and `HeaderMutationPerRoute`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::config::common::mutation_rules::v3::{
    HeaderMutation as PbMutation, header_mutation::Action,
};
use weft_xds_proto::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as PbFilter, HeaderMutationPerRoute, Mutations as PbMutations,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{HeaderMutation, Mutation, Mutations};
use crate::config::{FieldError, Within, decode, header_name, header_set, string_matcher};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let filter: PbFilter = decode(config)?;
    Ok(HttpFilterKind::Filter(Arc::new(HeaderMutation {
        own: mutations(filter.mutations.as_ref()).within("mutations")?,
        route_last: filter.most_specific_header_mutations_wins,
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let route: HeaderMutationPerRoute = decode(config)?;
    Ok(Arc::new(mutations(route.mutations.as_ref()).within("mutations")?))
}

fn mutations(config: Option<&PbMutations>) -> Result<Mutations, FieldError> {
    let Some(config) = config else { return Ok(Mutations::default()) };
    let refused = [
        (config.query_parameter_mutations.is_empty(), "query_parameter_mutations"),
        (config.response_trailers_mutations.is_empty(), "response_trailers_mutations"),
        (config.request_trailers_mutations.is_empty(), "request_trailers_mutations"),
    ];
    if let Some((_, field)) = refused.iter().find(|(empty, _)| !*empty) {
        return Err(FieldError::unsupported(field));
    }
    Ok(Mutations {
        request: list(&config.request_mutations, "request_mutations")?,
        response: list(&config.response_mutations, "response_mutations")?,
    })
}

fn list(mutations: &[PbMutation], field: &str) -> Result<Vec<Mutation>, FieldError> {
    let each = mutations.iter().enumerate();
    each.map(|(index, one)| mutation(one).within_item(field, index)).collect()
}

fn mutation(mutation: &PbMutation) -> Result<Mutation, FieldError> {
    match &mutation.action {
        None => Err(FieldError::new("has no action: give remove, append or remove_on_match")),
        Some(Action::Remove(name)) => Ok(Mutation::Remove(header_name(name).within("remove")?)),
        Some(Action::RemoveOnMatch(on)) => {
            let matcher = on.key_matcher.as_ref();
            let matcher = matcher.ok_or_else(|| FieldError::missing("key_matcher"));
            let matcher = matcher.and_then(|m| string_matcher(m).within("key_matcher"));
            Ok(Mutation::RemoveMatching(matcher.within("remove_on_match")?))
        }
        Some(Action::Append(option)) => Ok(Mutation::Set(header_set(option).within("append")?)),
    }
}
