//! `header_to_metadata.v3.Config`.

use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::extensions::filters::http::header_to_metadata::v3::{
    Config,
    config::{KeyValuePair, Rule as PbRule, ValueEncode, ValueType},
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{HeaderToMetadata, Rule, Source, Target};
use crate::config::{FieldError, Within, decode, header_name, regex_substitution};
use crate::{FilterCx, HttpFilterKind};

/// `metadata_namespace` when it is not set.
const NAMESPACE: &str = "envoy.filters.http.header_to_metadata";

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    Ok(HttpFilterKind::Filter(Arc::new(filter(config)?)))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let filter = filter(config)?;
    if filter.request.is_empty() && filter.response.is_empty() {
        return Err(FieldError::new("has neither request_rules nor response_rules"));
    }
    Ok(Arc::new(filter))
}

fn filter(config: &Any) -> Result<HeaderToMetadata, FieldError> {
    let config: Config = decode(config)?;
    if !config.stat_prefix.is_empty() {
        return Err(FieldError::unsupported("stat_prefix"));
    }
    let rules = |rules: &[PbRule], field: &str| -> Result<Vec<Rule>, FieldError> {
        let each = rules.iter().enumerate();
        each.map(|(index, one)| rule(one).within_item(field, index)).collect()
    };
    Ok(HeaderToMetadata {
        request: rules(&config.request_rules, "request_rules")?,
        response: rules(&config.response_rules, "response_rules")?,
    })
}

fn rule(config: &PbRule) -> Result<Rule, FieldError> {
    let source = match (config.header.as_str(), config.cookie.as_str()) {
        ("", "") => return Err(FieldError::new("names neither header nor cookie")),
        (name, "") => {
            let name = header_name(name).within("header")?;
            Source::Header { name, remove: config.remove }
        }
        ("", _) if config.remove => return Err(FieldError::at("remove", "is not for cookies")),
        ("", name) => Source::Cookie(name.to_owned()),
        _ => return Err(FieldError::new("names a header and a cookie; one of them is wanted")),
    };
    let target = |pair: &Option<KeyValuePair>| pair.as_ref().map(target).transpose();
    let present = target(&config.on_header_present).within("on_header_present")?;
    let missing = target(&config.on_header_missing).within("on_header_missing")?;
    if present.is_none() && missing.is_none() {
        return Err(FieldError::new("has neither on_header_present nor on_header_missing"));
    }
    if missing.as_ref().is_some_and(|missing| missing.fixed.is_none()) {
        return Err(FieldError::at("on_header_missing.value", "is required"));
    }
    Ok(Rule { source, present, missing })
}

fn target(config: &KeyValuePair) -> Result<Target, FieldError> {
    if config.key.is_empty() {
        return Err(FieldError::missing("key"));
    }
    let rewrite = config.regex_value_rewrite.as_ref().map(regex_substitution).transpose();
    let rewrite = rewrite.within("regex_value_rewrite")?;
    let fixed = Some(config.value.clone()).filter(|value| !value.is_empty());
    if fixed.is_some() && rewrite.is_some() {
        return Err(FieldError::new("has both value and regex_value_rewrite"));
    }
    let number = match ValueType::try_from(config.r#type) {
        Ok(ValueType::String) => false,
        Ok(ValueType::Number) => true,
        Ok(ValueType::ProtobufValue) | Err(_) => {
            return Err(FieldError::at("type", "only STRING and NUMBER are supported"));
        }
    };
    let namespace = match config.metadata_namespace.as_str() {
        "" => NAMESPACE,
        namespace => namespace,
    };
    Ok(Target {
        namespace: namespace.to_owned(),
        key: config.key.clone(),
        fixed,
        rewrite,
        number,
        base64: config.encode == ValueEncode::Base64 as i32,
    })
}
