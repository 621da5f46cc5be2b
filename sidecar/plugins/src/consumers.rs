//! Consumers: who may ask, and by which credentials they are known.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::chain::ChainError;
use crate::link::{self, Link};
use crate::registry;
use crate::secret::{self, Environment};

/// All consumers, found by what they show.
#[derive(Debug, Default)]
pub struct Consumers {
    /// By plugin, then by the value of its key field.
    credentials: HashMap<&'static str, HashMap<String, Arc<Credential>>>,
    by_name: HashMap<String, Arc<Consumer>>,
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) group: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Its own plugins over those of its group, without those that authenticate.
    pub(crate) links: Vec<Arc<Link>>,
}

/// One way in which a consumer is known.
pub(crate) struct Credential {
    pub(crate) consumer: Arc<Consumer>,
    /// The credential's id; none for what stands in the consumer itself.
    pub(crate) id: Option<String>,
    /// What the plugin keeps, with its defaults.
    pub(crate) settings: Value,
    /// What the plugin made of it.
    prepared: OnceLock<Option<Prepared>>,
}

type Prepared = Box<dyn Any + Send + Sync>;

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings are secrets.
        f.debug_struct("Credential").field("consumer", &self.consumer.name).finish_non_exhaustive()
    }
}

impl Credential {
    fn new(consumer: Arc<Consumer>, id: Option<String>, settings: Value) -> Self {
        Self { consumer, id, settings, prepared: OnceLock::new() }
    }

    /// What a plugin makes of the settings at their first use.
    pub(crate) fn prepared<T: Send + Sync + 'static>(
        &self,
        make: fn(&Value) -> Option<T>,
    ) -> Option<&T> {
        let prepared = self.prepared.get_or_init(|| Some(Box::new(make(&self.settings)?)));
        prepared.as_ref()?.downcast_ref()
    }
}

/// How consumers travel.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    consumers: Vec<ConsumerMessage>,
    #[serde(default)]
    groups: BTreeMap<String, Value>,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct ConsumerMessage {
    username: String,
    group_id: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    plugins: Map<String, Value>,
    #[serde(default)]
    credentials: BTreeMap<String, Map<String, Value>>,
}

impl Consumers {
    /// Compiles what a proxy is sent: `consumers` with `username`, `group_id`, `labels`, `plugins`
    /// and `credentials` (plugins by id), the plugins of `groups` by id, and `metadata` by plugin.
    ///
    /// # Errors
    /// The plugin that is wrong, and why.
    pub fn compile(json: &Value) -> Result<Self, ChainError> {
        let message = Message::deserialize(json)
            .map_err(|error| ChainError { plugin: String::new(), reason: error.to_string() })?;
        let mut all = Self::default();
        for consumer in &message.consumers {
            all.add(consumer, &message)?;
        }
        Ok(all)
    }

    fn add(&mut self, message: &ConsumerMessage, all: &Message) -> Result<(), ChainError> {
        let name = message.username.clone();
        let group = message.group_id.as_deref();
        let of_group = group.and_then(|group| all.groups.get(group)?.as_object());
        let mut plugins: Map<String, Value> = of_group.cloned().unwrap_or_default();
        plugins.extend(message.plugins.clone());
        plugins.retain(|name, _| {
            registry::definition(name).is_none_or(|definition| !definition.authenticates)
        });
        let owner = |plugin: &str| match group {
            Some(group) if !message.plugins.contains_key(plugin) => {
                format!("/apisix/consumer_groups/{group}")
            }
            _ => format!("/apisix/consumers/{name}"),
        };
        let links = link::compile_all(&plugins.into(), owner, &all.metadata)
            .map_err(|(plugin, reason)| ChainError { plugin, reason })?;
        let consumer = Arc::new(Consumer {
            name: name.clone(),
            group: message.group_id.clone(),
            labels: message.labels.clone(),
            links,
        });
        self.by_name.insert(name, Arc::clone(&consumer));
        self.add_credentials(&consumer, None, &message.plugins)?;
        for (id, plugins) in &message.credentials {
            self.add_credentials(&consumer, Some(id.as_str()), plugins)?;
        }
        Ok(())
    }

    fn add_credentials(
        &mut self,
        consumer: &Arc<Consumer>,
        id: Option<&str>,
        plugins: &Map<String, Value>,
    ) -> Result<(), ChainError> {
        for (name, settings) in plugins {
            let Some(definition) = registry::definition(name) else { continue };
            let Some(side) = &definition.consumer else { continue };
            let mut settings = settings.clone();
            settings.as_object_mut().and_then(|fields| fields.remove("_meta"));
            // Nobody may get in with the text of a reference.
            if !secret::resolve(&mut settings, &Environment) {
                tracing::warn!(consumer = %consumer.name, plugin = %name, "left out");
                continue;
            }
            registry::complete_consumer(definition, &mut settings)
                .map_err(|reason| ChainError { plugin: name.clone(), reason })?;
            let Some(key) = settings[side.key].as_str().map(str::to_owned) else { continue };
            let consumer = Arc::clone(consumer);
            let credential = Credential::new(consumer, id.map(str::to_owned), settings);
            self.credentials.entry(definition.name).or_default().insert(key, Arc::new(credential));
        }
        Ok(())
    }

    /// The consumer that `key` belongs to in the eyes of a plugin.
    pub(crate) fn find(&self, plugin: &str, key: &str) -> Option<&Arc<Credential>> {
        self.credentials.get(plugin)?.get(key)
    }

    /// A consumer without a credential, for those who don't show one.
    pub(crate) fn anonymous(&self, name: &str) -> Option<Arc<Credential>> {
        let consumer = Arc::clone(self.by_name.get(name)?);
        Some(Arc::new(Credential::new(consumer, None, Value::Null)))
    }
}
