//! What is known about a plugin before it has a configuration.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::callout::{CalloutTarget, Server};
use crate::plugin::Plugin;
use crate::states;

/// A plugin as the registry lists it.
#[derive(Debug)]
pub struct Definition {
    /// The name in `plugins`.
    pub name: &'static str,
    /// Higher ones run earlier within a phase.
    pub priority: i64,
    /// The JSON schema of its configuration on routes and the like.
    pub schema: &'static str,
    /// What it says of consumers, where it authenticates.
    pub consumer: Option<ConsumerSide>,
    /// The JSON schema of its metadata; none means that it has none.
    pub metadata: Option<&'static str>,
    /// Whether it finds the consumer who asks.
    pub authenticates: bool,
    pub(crate) uses_io: fn(&Value) -> bool,
    /// The setting that holds the address of a server that it asks.
    pub(crate) callout: Option<&'static str>,
    pub(crate) compile: Compile,
}

/// What a plugin that authenticates keeps with consumers.
#[derive(Debug)]
pub struct ConsumerSide {
    /// The JSON schema of a credential.
    pub schema: &'static str,
    /// The field that finds a consumer, which no two may share.
    pub key: &'static str,
    pub(crate) check: fn(&Value) -> Result<(), String>,
}

/// Compiles a configuration that the schema accepted and completed.
pub(crate) type Compile = fn(&Value, &Context<'_>) -> Result<Arc<dyn Plugin>, String>;

/// What a plugin is compiled in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The plugin's name.
    pub(crate) name: &'static str,
    /// The key of the resource that carries the configuration: `/apisix/routes/1`.
    pub(crate) owner: &'a str,
    /// The plugin's metadata, else null.
    pub(crate) metadata: &'a Value,
}

impl Definition {
    pub(crate) const fn new(
        name: &'static str,
        priority: i64,
        schema: &'static str,
        compile: Compile,
    ) -> Self {
        Self {
            name,
            priority,
            schema,
            consumer: None,
            metadata: None,
            authenticates: false,
            uses_io: |_| false,
            callout: None,
            compile,
        }
    }

    pub(crate) const fn with_consumers(self, schema: &'static str, key: &'static str) -> Self {
        let check = |_: &Value| Ok(());
        Self { consumer: Some(ConsumerSide { schema, key, check }), ..self }.authenticating()
    }

    /// With more than the schema can say of what consumers keep.
    pub(crate) const fn with_consumer_check(self, check: fn(&Value) -> Result<(), String>) -> Self {
        let Some(ConsumerSide { schema, key, .. }) = self.consumer else { return self };
        Self { consumer: Some(ConsumerSide { schema, key, check }), ..self }
    }

    /// One that looks into bodies, with such settings.
    pub(crate) const fn with_io(self, uses_io: fn(&Value) -> bool) -> Self {
        Self { uses_io, ..self }
    }

    /// One that asks a server whose address stands in this setting.
    pub(crate) const fn with_callout(self, setting: &'static str) -> Self {
        Self { callout: Some(setting), ..self }
    }

    /// One that finds out who asks.
    pub(crate) const fn authenticating(self) -> Self {
        Self { authenticates: true, ..self }
    }

    pub(crate) const fn with_metadata(self, schema: &'static str) -> Self {
        Self { metadata: Some(schema), ..self }
    }
}

impl Definition {
    /// Whether the plugin looks into bodies, with these settings; its chain then stands under the
    /// name of the filter for that.
    #[must_use]
    pub fn uses_io(&self, settings: &Value) -> bool {
        (self.uses_io)(settings)
    }

    /// The server that it asks, with these settings.
    #[must_use]
    pub fn callout(&self, settings: &Value) -> Option<CalloutTarget> {
        let uri = settings.get(self.callout?)?.as_str()?;
        let verify = settings.get("ssl_verify") != Some(&Value::Bool(false));
        Server::parse(uri, verify).ok().map(|server| server.target)
    }
}

impl Context<'_> {
    /// What this plugin remembers for this configuration of this resource, shared by all who
    /// compile the same.
    pub(crate) fn state<T: Send + Sync + 'static>(
        &self,
        settings: &Value,
        new: impl FnOnce() -> T,
    ) -> Arc<T> {
        states::shared(format!("{}\0{}\0{settings}", self.name, self.owner), new)
    }
}

/// The typed form of a configuration.
pub(crate) fn decode<T: DeserializeOwned>(settings: &Value) -> Result<T, String> {
    T::deserialize(settings).map_err(|error| error.to_string())
}
