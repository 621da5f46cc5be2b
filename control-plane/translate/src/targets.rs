//! The upstreams that routes lead to, and the names of their clusters.
//!
//! A cluster is named by who owns its upstream: `upstream/<id>` for one of its own,
//! `route/<id>` and `service/<id>` for one written into these, `…/split/<rule>/<share>` for one
//! written into `traffic-split` and `…/mirror` for the target of `proxy-mirror`.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_control_model::{
    Item, Plugins, ResourceId, ResourceKey, ResourceKind, Resources, Route, Service, Upstream,
};

use crate::problem::Unsupported;

/// An upstream under its cluster's name.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) cluster: String,
    pub(crate) upstream: Arc<Upstream>,
    /// The resource in which the upstream is written.
    pub(crate) owner: ResourceKey,
}

/// The upstreams in use, by the names of their clusters.
pub(crate) type Targets = BTreeMap<String, Target>;

/// A route with what it inherits.
pub(crate) struct RouteContext<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) route: Arc<Route>,
    pub(crate) service: Option<&'a Item<Service>>,
    /// The route; the service itself when it is served without one.
    pub(crate) key: ResourceKey,
    /// The revision that orders routes which are equal otherwise.
    pub(crate) created: u64,
}

impl<'a> RouteContext<'a> {
    pub(crate) fn of_route(
        resources: &'a Resources,
        item: &Item<Route>,
    ) -> Result<Self, Unsupported> {
        let service =
            match &item.value.service_id {
                None => None,
                Some(id) => Some(resources.services.get(id).ok_or_else(|| {
                    Unsupported::missing("service_id", format_args!("service {id}"))
                })?),
            };
        let key = ResourceKey::new(ResourceKind::Route, item.id.clone());
        let route = Arc::clone(&item.value);
        Ok(Self { resources, route, service, key, created: item.created })
    }

    /// All paths of a service that has no route.
    pub(crate) fn of_service(resources: &'a Resources, service: &'a Item<Service>) -> Self {
        let route = Route {
            name: service.value.name.clone(),
            labels: service.value.labels.clone(),
            uris: vec!["/*".to_owned()],
            hosts: Vec::new(),
            methods: Vec::new(),
            remote_addrs: Vec::new(),
            vars: None,
            priority: 0,
            enabled: true,
            plugins: Plugins::default(),
            plugin_config_id: None,
            service_id: Some(service.id.clone()),
            upstream: None,
            upstream_id: None,
            enable_websocket: None,
            timeout: None,
        };
        let (key, created) = (service_key(service), service.created);
        Self { resources, route: Arc::new(route), service: Some(service), key, created }
    }

    /// The route's hosts, else its service's.
    pub(crate) fn hosts(&self) -> &[String] {
        match self.service {
            Some(service) if self.route.hosts.is_empty() => &service.value.hosts,
            _ => &self.route.hosts,
        }
    }

    pub(crate) fn websocket(&self) -> bool {
        let inherited = self.service.is_some_and(|service| service.value.enable_websocket);
        self.route.enable_websocket.unwrap_or(inherited)
    }

    /// The route's own upstream, else its service's.
    pub(crate) fn own(&self) -> Result<Option<Target>, Unsupported> {
        if let Some(upstream) = &self.route.upstream {
            return Ok(Some(inline(self.key.clone(), upstream)));
        }
        if let Some(id) = &self.route.upstream_id {
            return referenced(self.resources, id).map(Some);
        }
        self.service.map_or(Ok(None), |service| of_service(self.resources, service))
    }

    /// The route's plugins over those of its plugin config, over its service's.
    pub(crate) fn plugins(&self) -> Result<Plugins, Unsupported> {
        let mut plugins = self.route.plugins.clone();
        if let Some((_, shared)) = self.plugin_config()? {
            plugins = plugins.over(&shared);
        }
        Ok(match self.service {
            Some(service) => plugins.over(&service.value.plugins),
            None => plugins,
        })
    }

    /// The resource whose configuration of the plugin `name` holds for this route.
    pub(crate) fn plugin_owner(&self, name: &str) -> ResourceKey {
        if self.route.plugins.0.contains_key(name) {
            return self.key.clone();
        }
        if let Ok(Some((key, shared))) = self.plugin_config()
            && shared.0.contains_key(name)
        {
            return key;
        }
        self.service.map_or_else(|| self.key.clone(), service_key)
    }

    /// The plugins that `plugin_config_id` names.
    fn plugin_config(&self) -> Result<Option<(ResourceKey, Plugins)>, Unsupported> {
        let Some(id) = &self.route.plugin_config_id else { return Ok(None) };
        let key = ResourceKey::new(ResourceKind::PluginConfig, id.clone());
        let item = self.resources.kept.get(&key).ok_or_else(|| {
            Unsupported::missing("plugin_config_id", format_args!("plugin config {id}"))
        })?;
        let plugins = item.value.get("plugins").and_then(serde_json::Value::as_object);
        Ok(Some((key, Plugins(plugins.cloned().unwrap_or_default()))))
    }

    /// A label of the route, else of its service.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let inherited = || self.service.and_then(|service| service.value.labels.get(name));
        self.route.labels.get(name).or_else(inherited).map(String::as_str)
    }
}

/// The upstream of a service.
pub(crate) fn of_service(
    resources: &Resources,
    service: &Item<Service>,
) -> Result<Option<Target>, Unsupported> {
    if let Some(upstream) = &service.value.upstream {
        return Ok(Some(inline(service_key(service), upstream)));
    }
    service.value.upstream_id.as_ref().map(|id| referenced(resources, id)).transpose()
}

pub(crate) fn service_key(service: &Item<Service>) -> ResourceKey {
    ResourceKey::new(ResourceKind::Service, service.id.clone())
}

/// The upstream of this id.
pub(crate) fn referenced(resources: &Resources, id: &ResourceId) -> Result<Target, Unsupported> {
    let item = resources
        .upstreams
        .get(id)
        .ok_or_else(|| Unsupported::missing("upstream_id", format_args!("upstream {id}")))?;
    Ok(inline(ResourceKey::new(ResourceKind::Upstream, id.clone()), &item.value))
}

pub(crate) fn inline(owner: ResourceKey, upstream: &Arc<Upstream>) -> Target {
    Target { cluster: base_name(&owner), upstream: Arc::clone(upstream), owner }
}

/// An upstream written into a plugin of `owner`; `place` tells it from the owner's others.
pub(crate) fn within_plugin(owner: ResourceKey, place: &str, upstream: Arc<Upstream>) -> Target {
    Target { cluster: format!("{}/{place}", base_name(&owner)), upstream, owner }
}

fn base_name(owner: &ResourceKey) -> String {
    let kind = match owner.kind {
        ResourceKind::StreamRoute => "stream_route",
        kind => kind.singular(),
    };
    format!("{kind}/{}", owner.id)
}
