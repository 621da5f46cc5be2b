//! Route configurations.

mod action;
mod redirect;
mod retry;

use std::collections::HashMap;
use std::sync::Arc;

use weft_filter_api::RouteFilterConfig;
use weft_filters::config::{FieldError, Within, decode, header_mutations, route_match};
use weft_filters::{FilterCx, compile_per_route};
use weft_model::{Route, RouteAction, Routes, VirtualHost};
use weft_route::{CompileError, HostRule, RouteRule, RouteTable, TableOptions};
use weft_xds_proto::any::is;
use weft_xds_proto::pb::envoy::config::route::v3::{
    FilterConfig, Route as PbRoute, RouteConfiguration, VirtualHost as PbHost, route::Action,
    route_action::RequestMirrorPolicy, virtual_host::TlsRequirementType,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::Cx;

/// The largest body of a direct response unless the configuration says otherwise, bytes.
const DIRECT_BODY: u32 = 4096;

/// Filters' configurations by filter name, each with what it says about being run.
#[derive(Clone, Default)]
struct PerFilter {
    configs: Vec<(Arc<str>, RouteFilterConfig)>,
    disabled: Vec<Arc<str>>,
}

/// What a route takes over from the table and the virtual host.
struct Inherited<'a> {
    table: &'a RouteConfiguration,
    host: &'a PbHost,
    filters: PerFilter,
    max_body: u32,
}

impl Inherited<'_> {
    /// The mirror policies of a route without its own.
    fn mirrors(&self) -> &[RequestMirrorPolicy] {
        if self.host.request_mirror_policies.is_empty() {
            &self.table.request_mirror_policies
        } else {
            &self.host.request_mirror_policies
        }
    }
}

/// Compiles a route configuration.
pub(crate) fn routes(cx: &mut Cx<'_>, config: &RouteConfiguration) -> Result<Routes, FieldError> {
    let refused = [
        (config.vhds.is_some(), "vhds"),
        (!config.internal_only_headers.is_empty(), "internal_only_headers"),
        (!config.vhost_header.is_empty(), "vhost_header"),
        (config.ignore_path_parameters_in_path_matching, "ignore_path_parameters_in_path_matching"),
        (!config.route_specifiers.is_empty(), "route_specifiers"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let filters = per_filter(cx, &config.typed_per_filter_config, PerFilter::default())?;
    let mut hosts = Vec::with_capacity(config.virtual_hosts.len());
    for (index, host) in config.virtual_hosts.iter().enumerate() {
        hosts.push(virtual_host(cx, config, host, &filters).within_item("virtual_hosts", index)?);
    }
    let options = TableOptions { ignore_port_in_host: config.ignore_port_in_host_matching };
    Ok(Routes {
        name: config.name.as_str().into(),
        table: RouteTable::compile(hosts, options).map_err(|error| table_error(&error))?,
        request_headers: header_mutations(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            "request",
        )?,
        response_headers: header_mutations(
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
            "response",
        )?,
        most_specific_wins: config.most_specific_header_mutations_wins,
    })
}

/// The table's errors begin with the field.
fn table_error(error: &CompileError) -> FieldError {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((field, reason)) => FieldError::at(field, reason),
        None => FieldError::new(text),
    }
}

type Host = HostRule<VirtualHost, Arc<Route>>;

fn virtual_host(
    cx: &mut Cx<'_>,
    table: &RouteConfiguration,
    host: &PbHost,
    filters: &PerFilter,
) -> Result<Host, FieldError> {
    if host.name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    if host.domains.is_empty() {
        return Err(FieldError::missing("domains"));
    }
    refuse_of_host(host)?;
    let max_body = table.max_direct_response_body_size_bytes.as_ref();
    let inherited = Inherited {
        table,
        host,
        filters: per_filter(cx, &host.typed_per_filter_config, filters.clone())?,
        max_body: max_body.map_or(DIRECT_BODY, |size| size.value),
    };
    let mut routes = Vec::with_capacity(host.routes.len());
    for (index, config) in host.routes.iter().enumerate() {
        routes.push(route(cx, config, &inherited).within_item("routes", index)?);
    }
    Ok(HostRule {
        domains: host.domains.clone(),
        value: VirtualHost {
            name: host.name.as_str().into(),
            require_tls: match TlsRequirementType::try_from(host.require_tls) {
                Ok(TlsRequirementType::None) => None,
                Ok(TlsRequirementType::ExternalOnly) => Some(false),
                Ok(TlsRequirementType::All) | Err(_) => Some(true),
            },
            request_headers: header_mutations(
                &host.request_headers_to_add,
                &host.request_headers_to_remove,
                "request",
            )?,
            response_headers: header_mutations(
                &host.response_headers_to_add,
                &host.response_headers_to_remove,
                "response",
            )?,
            attempt_count_upstream: host.include_request_attempt_count,
            attempt_count_downstream: host.include_attempt_count_in_response,
        },
        routes,
    })
}

#[expect(deprecated, reason = "the older fields have to be refused by name")]
fn refuse_of_host(host: &PbHost) -> Result<(), FieldError> {
    let refused = [
        (host.matcher.is_some(), "matcher"),
        (host.cors.is_some(), "cors"),
        (host.retry_policy_typed_config.is_some(), "retry_policy_typed_config"),
        (host.hedge_policy.is_some(), "hedge_policy"),
        (!host.route_specifiers.is_empty(), "route_specifiers"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
}

fn route(
    cx: &mut Cx<'_>,
    config: &PbRoute,
    inherited: &Inherited<'_>,
) -> Result<RouteRule<Arc<Route>>, FieldError> {
    let matched = config.r#match.as_ref().ok_or_else(|| FieldError::missing("match"))?;
    let (path, conditions) = route_match(matched).within("match")?;
    if !config.route_specifiers.is_empty() {
        return Err(FieldError::unsupported("route_specifiers"));
    }
    let action = match &config.action {
        None => {
            return Err(FieldError::new("has no action: give route, redirect or direct_response"));
        }
        Some(Action::Route(action)) => RouteAction::Forward(Box::new(
            action::forward(cx, action, &path, inherited).within("route")?,
        )),
        Some(Action::Redirect(action)) => {
            RouteAction::Redirect(Box::new(redirect::redirect(action, &path).within("redirect")?))
        }
        Some(Action::DirectResponse(action)) => RouteAction::Direct(
            redirect::direct(action, inherited.max_body).within("direct_response")?,
        ),
        Some(Action::FilterAction(_)) => return Err(FieldError::unsupported("filter_action")),
        Some(Action::NonForwardingAction(_)) => {
            return Err(FieldError::unsupported("non_forwarding_action"));
        }
    };
    let filters = per_filter(cx, &config.typed_per_filter_config, inherited.filters.clone())?;
    let value = Route {
        name: Some(config.name.as_str()).filter(|name| !name.is_empty()).map(Into::into),
        action,
        request_headers: header_mutations(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            "request",
        )?,
        response_headers: header_mutations(
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
            "response",
        )?,
        filters: filters.configs,
        disabled_filters: filters.disabled,
    };
    Ok(RouteRule { path, conditions, value: Arc::new(value) })
}

/// Adds a `typed_per_filter_config` to what was inherited; the more specific one wins.
fn per_filter(
    cx: &Cx<'_>,
    configs: &HashMap<String, Any>,
    mut inherited: PerFilter,
) -> Result<PerFilter, FieldError> {
    // In the order of names, so that one resource gives one error.
    let mut sorted: Vec<_> = configs.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, config) in sorted {
        one_filter(cx, name, config, &mut inherited).within_key("typed_per_filter_config", name)?;
    }
    Ok(inherited)
}

fn one_filter(
    cx: &Cx<'_>,
    name: &str,
    config: &Any,
    all: &mut PerFilter,
) -> Result<(), FieldError> {
    let mut cx = FilterCx { node: cx.node, registry: cx.registry, stat_prefix: "" };
    let mut optional = false;
    let mut disabled = false;
    let compiled = if is::<FilterConfig>(config) {
        let wrapper: FilterConfig = decode(config)?;
        (optional, disabled) = (wrapper.is_optional, wrapper.disabled);
        match wrapper.config {
            Some(inner) => compile_per_route(name, &inner, &mut cx).map(Some).within("config"),
            None => Ok(None),
        }
    } else {
        compile_per_route(name, config, &mut cx).map(Some)
    };
    let compiled = match compiled {
        Err(_) if optional => return Ok(()),
        other => other?,
    };
    all.configs.retain(|(known, _)| &**known != name);
    all.disabled.retain(|known| &**known != name);
    if disabled {
        all.disabled.push(name.into());
    } else {
        // Without a configuration of its own the entry still switches a disabled filter on.
        let unit: RouteFilterConfig = Arc::new(());
        all.configs.push((name.into(), compiled.unwrap_or(unit)));
    }
    Ok(())
}
