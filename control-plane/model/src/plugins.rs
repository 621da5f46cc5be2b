//! Plugins: their configuration as written, and typed views of those that
//! Weft runs.

mod traffic_split;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use traffic_split::{
    TrafficMatch, TrafficSplit, TrafficSplitRule, WeightedTarget, WeightedUpstream,
};

use crate::error::{DecodeError, decode};

/// The plugins for which Envoy has an equivalent, with APISIX's priorities, highest first. Proxies
/// run the others themselves.
pub const TRANSLATED: &[(&str, i64)] =
    &[("proxy-mirror", 1010), ("proxy-rewrite", 1008), ("traffic-split", 966), ("redirect", 900)];

/// Whether Envoy has an equivalent of the plugin.
pub fn is_translated(name: &str) -> bool {
    TRANSLATED.iter().any(|(known, _)| *known == name)
}

/// The `plugins` of a resource: configuration by name, unchanged.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub struct Plugins(pub Map<String, Value>);

impl Plugins {
    /// The configuration of the plugin `name`, unless it is absent or
    /// switched off by `_meta.disable`.
    pub fn enabled(&self, name: &str) -> Option<&Value> {
        let config = self.0.get(name)?;
        let disabled = config.pointer("/_meta/disable").and_then(Value::as_bool);
        (disabled != Some(true)).then_some(config)
    }

    /// The typed view of the enabled plugin `name`.
    ///
    /// # Errors
    /// A field of a wrong type or value, by its path within the plugin.
    pub fn view<T: PluginView>(&self) -> Result<Option<T>, DecodeError> {
        self.enabled(T::NAME).map(decode).transpose()
    }

    /// These over those of something less specific, such as a route's over its
    /// service's: one replaces that of the same name as a whole.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        let mut merged = other.0.clone();
        merged.extend(self.0.iter().map(|(name, config)| (name.clone(), config.clone())));
        Self(merged)
    }
}

/// A typed view of one plugin's configuration.
pub trait PluginView: serde::de::DeserializeOwned {
    /// The plugin's name in `plugins`.
    const NAME: &'static str;
}
