//! Filters whose configuration is discovered (ECDS).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use weft_filter_api::{HttpFilter, NetworkFilter};
use weft_filters::config::{FieldError, Within};
use weft_filters::{
    FilterCx, HttpFilterKind, NetworkFilterKind, compile_http, compile_network, message_name,
};
use weft_model::{
    DiscoveredHttpFilter, DiscoveredNetworkFilter, Extension, HttpExtension, NetworkExtension,
    TrafficDirection,
};
use weft_telemetry::{Counter, Registry};
use weft_xds_proto::Any;
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::{ExtensionConfigSource, Node};

use super::Cx;
use super::source::over_ads;

/// One place of a listener that a discovered filter stands in.
#[derive(Debug)]
pub(crate) struct ExtensionUse {
    /// The resource's name, which is the filter's.
    pub(crate) name: Arc<str>,
    /// `initial_fetch_timeout`; `None`: for ever.
    pub(crate) timeout: Option<Duration>,
    place: Place,
    /// `stat_prefix` of the connection manager.
    stat_prefix: String,
    /// Of the listener.
    direction: TrafficDirection,
    /// The names of the messages in `type_urls`.
    types: Vec<String>,
    /// `default_config`
    default: Option<Filter>,
    /// Whether the control plane has said something: a configuration, or that there is none.
    answered: AtomicBool,
    reloads: Counter,
    failures: Counter,
}

#[derive(Debug)]
enum Place {
    Http(HttpExtension),
    Network(NetworkExtension),
}

/// A filter that was compiled for a place.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    Http(Arc<Extension<dyn HttpFilter>>),
    Network(Arc<Extension<dyn NetworkFilter>>),
}

/// An HTTP filter that is discovered.
pub(super) fn http(
    cx: &mut Cx<'_>,
    name: &str,
    config: &ExtensionConfigSource,
    stat_prefix: &str,
) -> Result<Arc<dyn HttpFilter>, FieldError> {
    let slot = HttpExtension::empty();
    enlist(cx, name, config, (Place::Http(slot.clone()), stat_prefix))?;
    Ok(Arc::new(DiscoveredHttpFilter(slot)))
}

/// A network filter that is discovered.
pub(super) fn network(
    cx: &mut Cx<'_>,
    name: &str,
    config: &ExtensionConfigSource,
) -> Result<Arc<dyn NetworkFilter>, FieldError> {
    let slot = NetworkExtension::empty();
    enlist(cx, name, config, (Place::Network(slot.clone()), ""))?;
    Ok(Arc::new(DiscoveredNetworkFilter(slot)))
}

fn enlist(
    cx: &mut Cx<'_>,
    name: &str,
    config: &ExtensionConfigSource,
    (place, stat_prefix): (Place, &str),
) -> Result<(), FieldError> {
    if name.is_empty() {
        return Err(FieldError::missing("name"));
    }
    if config.type_urls.is_empty() {
        return Err(FieldError::missing("type_urls"));
    }
    let kind = match place {
        Place::Http(_) => "http_filter",
        Place::Network(_) => "network_filter",
    };
    let scope = cx.registry.scope("extension_config_discovery", None);
    let mut place = ExtensionUse {
        name: name.into(),
        timeout: over_ads(config.config_source.as_ref()).within("config_source")?,
        place,
        stat_prefix: stat_prefix.to_owned(),
        direction: cx.direction,
        types: config.type_urls.iter().map(|url| type_name(url).to_owned()).collect(),
        default: None,
        answered: AtomicBool::new(false),
        reloads: scope.counter(&format!("{kind}.{name}.config_reload")),
        failures: scope.counter(&format!("{kind}.{name}.config_fail")),
    };
    if let Some(default) = &config.default_config {
        let default = place.compile(default, cx.node, cx.registry);
        place.default = Some(default.within("default_config")?);
    }
    if config.apply_default_config_without_warming {
        if place.default.is_none() {
            return Err(FieldError::missing("default_config"));
        }
        place.do_without();
    }
    cx.needs.extensions.push(Arc::new(place));
    Ok(())
}

impl ExtensionUse {
    /// Compiles a configuration for this place; nothing is changed yet.
    ///
    /// # Errors
    /// Its type is none of `type_urls`, it can't stand here, or the filter refuses it.
    pub(crate) fn compile(
        &self,
        config: &Any,
        node: &Node,
        registry: &Registry,
    ) -> Result<Filter, FieldError> {
        let compiled = self.compile_typed(config, node, registry);
        if compiled.is_err() {
            self.failures.inc();
        }
        compiled
    }

    fn compile_typed(
        &self,
        config: &Any,
        node: &Node,
        registry: &Registry,
    ) -> Result<Filter, FieldError> {
        let message = message_name(config).within("typed_config")?;
        if !self.types.contains(&message) {
            let wanted = self.types.join(", ");
            let reason = format!("has the type {message}, but the listener wants {wanted}");
            return Err(FieldError::at("typed_config", reason));
        }
        let (stat_prefix, direction) = (self.stat_prefix.as_str(), self.direction);
        let mut cx = FilterCx { node, registry, stat_prefix, direction };
        match self.place {
            Place::Http(_) => match compile_http(&self.name, config, &mut cx)? {
                HttpFilterKind::Filter(filter) => {
                    Ok(Filter::Http(Arc::new(Extension(Some(filter)))))
                }
                HttpFilterKind::Inert => Ok(Filter::Http(Arc::new(Extension(None)))),
                HttpFilterKind::Router | HttpFilterKind::OnDemand(_) => {
                    let reason = "this filter can't be discovered: give it in the listener";
                    Err(FieldError::at("typed_config", reason))
                }
            },
            Place::Network(_) => match compile_network(&self.name, config, &mut cx)? {
                NetworkFilterKind::Filter(filter) => {
                    Ok(Filter::Network(Arc::new(Extension(Some(filter)))))
                }
                NetworkFilterKind::Inert => Ok(Filter::Network(Arc::new(Extension(None)))),
            },
        }
    }

    /// Puts a filter in its place.
    pub(crate) fn put(&self, filter: Filter) {
        self.reloads.inc();
        self.set(filter);
    }

    fn set(&self, filter: Filter) {
        match (&self.place, filter) {
            (Place::Http(slot), Filter::Http(filter)) => slot.set(filter),
            (Place::Network(slot), Filter::Network(filter)) => slot.set(filter),
            // A filter is put only where it was compiled for.
            (Place::Http(_), Filter::Network(_)) | (Place::Network(_), Filter::Http(_)) => {}
        }
        self.answered.store(true, Ordering::Relaxed);
    }

    /// There is no configuration: the default's turn, where there is one.
    pub(crate) fn do_without(&self) {
        match &self.default {
            Some(default) => self.set(default.clone()),
            None => match &self.place {
                Place::Http(slot) => slot.clear(),
                Place::Network(slot) => slot.clear(),
            },
        }
        self.answered.store(true, Ordering::Relaxed);
    }

    /// As [`Self::do_without`], unless something is in its place already.
    pub(crate) fn give_up(&self) {
        let filled = match &self.place {
            Place::Http(slot) => slot.is_filled(),
            Place::Network(slot) => slot.is_filled(),
        };
        if !filled {
            self.do_without();
        }
    }

    /// Whether its listener need not wait for it any more.
    pub(crate) fn is_ready(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}
