//! The plugins of one route, compiled.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::link::{self, Link};

/// What APISIX calls the resources that a request is served by.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Place {
    pub(crate) route_id: Option<String>,
    pub(crate) route_name: Option<String>,
    pub(crate) service_id: Option<String>,
    pub(crate) service_name: Option<String>,
    /// The path patterns of the route.
    #[serde(default)]
    pub(crate) uris: Vec<String>,
    /// The host patterns of the route.
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

/// The plugins of a route with those of the global rules.
#[derive(Debug)]
pub struct Chain {
    pub(crate) place: Arc<Place>,
    pub(crate) global: Arc<[Arc<Link>]>,
    pub(crate) own: Arc<[Arc<Link>]>,
    /// Whether the request is kept for the response.
    pub(crate) keeps_request: bool,
    /// Whether somebody waits for the end.
    pub(crate) logs: bool,
}

/// What a proxy can't run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugins.{plugin}: {reason}")]
pub struct ChainError {
    /// The plugin; empty if it is the whole.
    pub plugin: String,
    /// What is wrong with it.
    pub reason: String,
}

/// How a chain travels.
#[derive(Deserialize)]
struct Message {
    #[serde(flatten)]
    place: Place,
    /// The resource that the plugins come from, unless `owners` says otherwise.
    #[serde(default)]
    owner: String,
    #[serde(default)]
    plugins: Value,
    #[serde(default)]
    owners: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    global: Vec<GlobalRule>,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct GlobalRule {
    owner: String,
    plugins: Value,
}

impl Chain {
    /// Compiles what a proxy is sent: `plugins` as people wrote them, with the key of their
    /// `owner` and those of single plugins in `owners`; `global` rules with `owner` and `plugins`;
    /// `metadata` by plugin; `route_id`, `route_name`, `service_id`, `service_name`, `uris` and
    /// `hosts`.
    ///
    /// # Errors
    /// The plugin that is wrong, and why.
    pub fn compile(json: &Value) -> Result<Self, ChainError> {
        let message = Message::deserialize(json)
            .map_err(|error| ChainError { plugin: String::new(), reason: error.to_string() })?;
        let named = |(plugin, reason)| ChainError { plugin, reason };
        let owner = |name: &str| message.owners.get(name).unwrap_or(&message.owner).clone();
        let own = link::compile_all(&message.plugins, owner, &message.metadata).map_err(named)?;
        let mut global = Vec::new();
        for rule in &message.global {
            let owner = |_: &str| rule.owner.clone();
            let links = link::compile_all(&rule.plugins, owner, &message.metadata);
            global.extend(links.map_err(named)?);
        }
        // Of these, the route's own counts alone.
        global.retain(|link| {
            link.name != "prometheus" || own.iter().all(|own| own.name != "prometheus")
        });
        link::sort(&mut global);
        let any = |ask: fn(&Link) -> bool| global.iter().chain(&own).any(|link| ask(link));
        let authenticates = any(|link| link.authenticates);
        let filtered = |link: &Link| link.filter.is_some();
        Ok(Self {
            // A consumer's plugins may want it.
            keeps_request: authenticates
                || any(|link| link.plugin.reads_request_late() || link.plugin.logs())
                || any(filtered),
            logs: authenticates || any(|link| link.plugin.logs()),
            place: Arc::new(message.place),
            global: global.into(),
            own: own.into(),
        })
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.global.is_empty() && self.own.is_empty()
    }
}

/// The route's plugins with those of a consumer: the consumer's win. Gives those that are new to
/// the route as well.
pub(crate) fn merged(own: &[Arc<Link>], consumer: &[Arc<Link>]) -> (Vec<Arc<Link>>, Vec<u64>) {
    let mut all = own.to_vec();
    let mut new = Vec::new();
    for link in consumer {
        match all.iter_mut().find(|known| known.name == link.name) {
            Some(known) => *known = Arc::clone(link),
            None => {
                new.push(link.id);
                all.push(Arc::clone(link));
            }
        }
    }
    link::sort(&mut all);
    (all, new)
}
