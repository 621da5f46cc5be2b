//! `http.ext_authz.v3.ExtAuthz` and `ExtAuthzPerRoute`.

use std::sync::Arc;

use http::StatusCode;
use weft_filter_api::RouteFilterConfig;
use weft_route::StringMatcher;
use weft_xds_proto::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationResponse, BufferSettings, CheckSettings, ExtAuthz as PbFilter, ExtAuthzPerRoute,
    HttpService as PbHttp, check_settings::ServiceOverride, ext_authz::Services,
    ext_authz_per_route::Override,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use weft_xds_proto::pb::google::protobuf::Any;

use super::service::HttpService;
use super::{BodySettings, ExtAuthz, PerRoute, RouteSettings, Service, Stats};
use crate::config::{
    FieldError, Within, decode, grpc_service, http_uri, metadata_matcher, plain_header,
    runtime_fraction, status, string_matcher,
};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    refuse(&config)?;
    let service = match config.services.as_ref() {
        Some(Services::GrpcService(one)) => {
            Service::Grpc(grpc_service(one).within("grpc_service")?)
        }
        Some(Services::HttpService(one)) => {
            Service::Http(Arc::new(http_service(one).within("http_service")?))
        }
        None => return Err(FieldError::missing("grpc_service")),
    };
    let mut allowed = list(config.allowed_headers.as_ref(), "allowed_headers")?;
    if let (None, Some(Services::HttpService(http))) = (&allowed, &config.services) {
        #[expect(deprecated, reason = "control planes still send the older field")]
        let older =
            http.authorization_request.as_ref().and_then(|one| one.allowed_headers.as_ref());
        allowed = list(older, "http_service.authorization_request.allowed_headers")?;
    }
    let flag = config.deny_at_disable.as_ref().and_then(|flag| flag.default_value);
    let ingestion = config.enable_dynamic_metadata_ingestion;
    let enabled_metadata = config.filter_enabled_metadata.as_ref().map(metadata_matcher);
    let enabled = config.filter_enabled.as_ref().map(runtime_fraction).transpose();
    let on_error = config.status_on_error.as_ref().filter(|status| status.code != 0);
    let on_error = on_error.map(|one| status(one.code.unsigned_abs())).transpose();
    Ok(HttpFilterKind::Filter(Arc::new(ExtAuthz {
        service,
        fails_open: config.failure_mode_allow,
        tells_failure: config.failure_mode_allow_header_add,
        body: config.with_request_body.map(body).transpose().within("with_request_body")?,
        clear_route: config.clear_route_cache,
        status_on_error: on_error.within("status_on_error")?.unwrap_or(StatusCode::FORBIDDEN),
        allowed,
        disallowed: list(config.disallowed_headers.as_ref(), "disallowed_headers")?
            .unwrap_or_default(),
        namespaces: config.metadata_context_namespaces.clone(),
        enabled: enabled.within("filter_enabled")?.flatten(),
        enabled_metadata: enabled_metadata.transpose().within("filter_enabled_metadata")?,
        deny_at_disable: flag.is_some_and(|flag| flag.value),
        include_certificate: config.include_peer_certificate,
        include_session: config.include_tls_session,
        raw_headers: config.encode_raw_headers,
        takes_metadata: ingestion.is_none_or(|flag| flag.value),
        validates: config.validate_mutations,
        longest_denial: config.max_denied_response_body_bytes as usize,
        stats: stats(cx, &config.stat_prefix),
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: ExtAuthzPerRoute = decode(config)?;
    match config.r#override {
        Some(Override::Disabled(true)) => Ok(Arc::new(PerRoute::Disabled)),
        Some(Override::CheckSettings(one)) => {
            Ok(Arc::new(PerRoute::Settings(Box::new(settings(one).within("check_settings")?))))
        }
        _ => Err(FieldError::new("give disabled: true or check_settings")),
    }
}

fn settings(config: CheckSettings) -> Result<RouteSettings, FieldError> {
    let service = match config.service_override.as_ref() {
        Some(ServiceOverride::GrpcService(one)) => {
            Some(Service::Grpc(grpc_service(one).within("grpc_service")?))
        }
        Some(ServiceOverride::HttpService(one)) => {
            Some(Service::Http(Arc::new(http_service(one).within("http_service")?)))
        }
        None => None,
    };
    Ok(RouteSettings {
        context: config.context_extensions.into_iter().collect(),
        without_body: config.disable_request_body_buffering,
        body: config.with_request_body.map(body).transpose().within("with_request_body")?,
        service,
    })
}

fn refuse(config: &PbFilter) -> Result<(), FieldError> {
    let refused = [
        (!config.typed_metadata_context_namespaces.is_empty(), "typed_metadata_context_namespaces"),
        (!config.route_metadata_context_namespaces.is_empty(), "route_metadata_context_namespaces"),
        (
            !config.route_typed_metadata_context_namespaces.is_empty(),
            "route_typed_metadata_context_namespaces",
        ),
        (!config.bootstrap_metadata_labels_key.is_empty(), "bootstrap_metadata_labels_key"),
        (config.decoder_header_mutation_rules.is_some(), "decoder_header_mutation_rules"),
        (config.shadow_mode, "shadow_mode"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

fn body(config: BufferSettings) -> Result<BodySettings, FieldError> {
    if config.max_request_bytes == 0 {
        return Err(FieldError::at("max_request_bytes", "has to be more than zero"));
    }
    Ok(BodySettings {
        longest: config.max_request_bytes as usize,
        partial: config.allow_partial_message,
        as_bytes: config.pack_as_bytes,
    })
}

fn http_service(config: &PbHttp) -> Result<HttpService, FieldError> {
    if config.retry_policy.is_some() {
        return Err(FieldError::unsupported("retry_policy"));
    }
    let target = config.server_uri.as_ref().ok_or_else(|| FieldError::missing("server_uri"))?;
    let mut add = http::HeaderMap::new();
    let added = config.authorization_request.iter().flat_map(|one| &one.headers_to_add);
    for (index, one) in added.enumerate() {
        let (name, value) = plain_header(&one.key, one.value.as_bytes(), &one.raw_value)
            .within_item("headers_to_add", index)
            .within("authorization_request")?;
        add.append(name, value);
    }
    let empty = AuthorizationResponse::default();
    let answer = config.authorization_response.as_ref().unwrap_or(&empty);
    let listed = |one: &Option<ListStringMatcher>, field: &str| {
        Ok::<_, FieldError>(list(one.as_ref(), field)?.unwrap_or_default())
    };
    Ok(HttpService {
        target: http_uri(target).within("server_uri")?,
        prefix: config.path_prefix.clone(),
        path: config.path_override.clone(),
        add,
        to_upstream: listed(&answer.allowed_upstream_headers, "allowed_upstream_headers")?,
        to_append: listed(
            &answer.allowed_upstream_headers_to_append,
            "allowed_upstream_headers_to_append",
        )?,
        to_client: listed(&answer.allowed_client_headers, "allowed_client_headers")?,
        on_success: listed(
            &answer.allowed_client_headers_on_success,
            "allowed_client_headers_on_success",
        )?,
        to_metadata: listed(
            &answer.dynamic_metadata_from_headers,
            "dynamic_metadata_from_headers",
        )?,
    })
}

fn list(
    config: Option<&ListStringMatcher>,
    field: &str,
) -> Result<Option<Vec<StringMatcher>>, FieldError> {
    let Some(config) = config else { return Ok(None) };
    let each = config.patterns.iter().enumerate();
    let each =
        each.map(|(index, one)| string_matcher(one).within_item("patterns", index).within(field));
    each.collect::<Result<_, _>>().map(Some)
}

fn stats(cx: &FilterCx<'_>, prefix: &str) -> Stats {
    let prefix = match prefix.trim_end_matches('.') {
        "" => "ext_authz".to_owned(),
        prefix => format!("ext_authz.{prefix}"),
    };
    let scope = cx.scope();
    let counter = |name: &str| scope.counter(&format!("{prefix}.{name}"));
    Stats {
        ok: counter("ok"),
        denied: counter("denied"),
        error: counter("error"),
        disabled: counter("disabled"),
        failure_mode_allowed: counter("failure_mode_allowed"),
        invalid: counter("invalid"),
    }
}
