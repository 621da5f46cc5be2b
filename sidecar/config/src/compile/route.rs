//! Route configurations.

mod action;
mod internal_redirect;
mod redirect;
mod retry;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weft_filter_api::{RATE_LIMITS, RouteFilterConfig};
use weft_filters::config::{FieldError, Within, decode, header_mutations, route_match};
use weft_filters::{compile_per_route, compile_rate_limits};
use weft_model::{ClusterChoice, Route, RouteAction, Routes, UseMark, Vhds, VirtualHost};
use weft_route::{CompileError, CompiledHost, HostRule, RouteRule, RouteTable, TableOptions};
use weft_xds_proto::any::is;
use weft_xds_proto::pb::envoy::config::route::v3::{
    FilterConfig, Route as PbRoute, RouteConfiguration, VirtualHost as PbHost, route::Action,
    route_action::RequestMirrorPolicy, virtual_host::TlsRequirementType,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::Cx;
use super::source::over_ads;

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

/// A virtual host compiled by itself.
#[derive(Clone, Debug)]
pub(crate) struct LoneHost {
    /// `domains`
    pub(crate) domains: Vec<String>,
    /// Everything else.
    pub(crate) host: Arc<CompiledHost<VirtualHost, Arc<Route>>>,
}

impl LoneHost {
    fn new(mut rule: Host) -> Self {
        let domains = std::mem::take(&mut rule.domains);
        Self { domains, host: Arc::new(CompiledHost::new(rule)) }
    }

    /// The clusters that its routes name.
    pub(crate) fn clusters(&self) -> BTreeSet<Arc<str>> {
        let mut names = BTreeSet::new();
        for rule in self.host.routes() {
            let RouteAction::Forward(action) = &rule.value.action else { continue };
            names.extend(action.mirrors.iter().map(|mirror| Arc::clone(mirror.cluster.name())));
            match &action.clusters {
                ClusterChoice::One(slot) => drop(names.insert(Arc::clone(slot.name()))),
                ClusterChoice::Weighted(weighted) => {
                    let clusters = weighted.clusters.iter();
                    names.extend(clusters.map(|one| Arc::clone(one.cluster.name())));
                }
                ClusterChoice::Header(_) => {}
            }
        }
        names
    }
}

/// Compiles a route configuration that is whole.
pub(super) fn routes(cx: &mut Cx<'_>, config: &RouteConfiguration) -> Result<Routes, FieldError> {
    if config.vhds.is_some() {
        return Err(FieldError::at("vhds", "goes only with a table by RDS"));
    }
    let hosts = hosts(cx, config)?;
    assemble(config, hosts.iter())
}

/// Compiles the virtual hosts of a route configuration.
pub(crate) fn hosts(
    cx: &mut Cx<'_>,
    config: &RouteConfiguration,
) -> Result<Vec<LoneHost>, FieldError> {
    refuse(config)?;
    let filters = per_filter(cx, &config.typed_per_filter_config, PerFilter::default())?;
    let mut hosts = Vec::with_capacity(config.virtual_hosts.len());
    for (index, host) in config.virtual_hosts.iter().enumerate() {
        let host = virtual_host(cx, config, host, &filters).within_item("virtual_hosts", index)?;
        hosts.push(LoneHost::new(host));
    }
    Ok(hosts)
}

/// Compiles a virtual host of the table `config` that came by itself (VHDS).
pub(crate) fn lone_host(
    cx: &mut Cx<'_>,
    config: &RouteConfiguration,
    host: &PbHost,
) -> Result<LoneHost, FieldError> {
    let filters = per_filter(cx, &config.typed_per_filter_config, PerFilter::default())?;
    let mut host = virtual_host(cx, config, host, &filters)?;
    host.value.used = Some(UseMark::default());
    Ok(LoneHost::new(host))
}

/// Puts virtual hosts together to what `config` says of the table.
pub(crate) fn assemble<'a>(
    config: &RouteConfiguration,
    hosts: impl Iterator<Item = &'a LoneHost>,
) -> Result<Routes, FieldError> {
    if let Some(vhds) = &config.vhds {
        over_ads(vhds.config_source.as_ref()).within("vhds.config_source")?;
    }
    let ignore_port = config.ignore_port_in_host_matching;
    let hosts = hosts.map(|one| (one.domains.as_slice(), Arc::clone(&one.host)));
    let table = RouteTable::of(hosts, TableOptions { ignore_port_in_host: ignore_port });
    Ok(Routes {
        name: config.name.as_str().into(),
        table: table.map_err(|error| table_error(&error))?,
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
        vhds: config.vhds.as_ref().map(|_| Vhds { ignore_port }),
    })
}

fn refuse(config: &RouteConfiguration) -> Result<(), FieldError> {
    let refused = [
        (!config.internal_only_headers.is_empty(), "internal_only_headers"),
        (!config.vhost_header.is_empty(), "vhost_header"),
        (config.ignore_path_parameters_in_path_matching, "ignore_path_parameters_in_path_matching"),
        (!config.route_specifiers.is_empty(), "route_specifiers"),
    ];
    match refused.iter().find(|(set, _)| *set) {
        Some((_, field)) => Err(FieldError::unsupported(field)),
        None => Ok(()),
    }
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
            used: None,
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
    let mut filters = per_filter(cx, &config.typed_per_filter_config, inherited.filters.clone())?;
    filters.configs.extend(rate_limits(cx, config, inherited)?);
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
        tracing: super::tracing::of_route(config)?,
    };
    Ok(RouteRule { path, conditions, value: Arc::new(value) })
}

/// The `rate_limits` of a route and its virtual host, which stand among the filters' configurations.
fn rate_limits(
    cx: &Cx<'_>,
    config: &PbRoute,
    inherited: &Inherited<'_>,
) -> Result<Option<(Arc<str>, RouteFilterConfig)>, FieldError> {
    let action = match &config.action {
        Some(Action::Route(action)) => Some(action),
        _ => None,
    };
    let own = action.map_or(&[][..], |action| &action.rate_limits);
    let of_host = &inherited.host.rate_limits;
    if own.is_empty() && of_host.is_empty() {
        return Ok(None);
    }
    #[expect(deprecated, reason = "control planes still send the older field")]
    let include = action.and_then(|action| action.include_vh_rate_limits);
    let include = include.is_some_and(|flag| flag.value);
    let compiled = compile_rate_limits(own, of_host, include, &cx.node.cluster)?;
    Ok(Some((RATE_LIMITS.into(), compiled)))
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
    let mut cx = cx.for_filters("");
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
