//! One plugin in a chain, with what `_meta` says of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::{Value, json};
use weft_apisix::{Rule, Schema, Variables};

use crate::definition::{Context, Definition};
use crate::plugin::Plugin;
use crate::registry;
use crate::secret::{self, Environment};

/// A plugin in its place.
#[derive(Debug)]
pub(crate) struct Link {
    /// No other has it.
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) priority: i64,
    pub(crate) authenticates: bool,
    pub(crate) plugin: Arc<dyn Plugin>,
    /// `_meta.filter`
    pub(crate) filter: Option<Rule>,
    /// `_meta.error_response`
    pub(crate) error_response: Option<Bytes>,
}

impl Link {
    /// Compiles the plugin `name` of the resource `owner`; `None` if `_meta.disable` says so.
    pub(crate) fn compile(
        name: &str,
        settings: &Value,
        owner: &str,
        metadata: &Value,
    ) -> Result<Option<Self>, String> {
        let definition =
            registry::definition(name).ok_or_else(|| format!("unknown plugin [{name}]"))?;
        Self::of(definition, settings, owner, metadata)
    }

    fn of(
        definition: &'static Definition,
        settings: &Value,
        owner: &str,
        metadata: &Value,
    ) -> Result<Option<Self>, String> {
        let mut settings = settings.clone();
        if settings.as_array().is_some_and(Vec::is_empty) {
            settings = Value::Object(serde_json::Map::new());
        }
        let meta = settings.as_object_mut().and_then(|fields| fields.remove("_meta"));
        let meta = meta.unwrap_or_default();
        if meta["disable"] == true {
            return Ok(None);
        }
        check_meta(&meta)?;
        secret::resolve(&mut settings, &Environment);
        registry::schema(definition).check(&mut settings)?;
        let context = Context { name: definition.name, owner, metadata };
        let plugin = (definition.compile)(&settings, &context)?;
        let filter = meta.get("filter").map(Rule::compile).transpose();
        let filter =
            filter.map_err(|error| format!("failed to validate the 'vars' expression: {error}"))?;
        Ok(Some(Self {
            id: next_id(),
            name: definition.name,
            priority: meta["priority"].as_i64().unwrap_or(definition.priority),
            authenticates: definition.authenticates,
            plugin,
            filter,
            error_response: meta.get("error_response").map(error_body),
        }))
    }

    /// Whether it runs for this request.
    pub(crate) fn runs(&self, variables: &dyn Variables) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.holds(variables))
    }
}

/// Checks what `_meta` says, if anything.
fn check_meta(meta: &Value) -> Result<(), String> {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        Schema::new(json!({
            "type": "object",
            "properties": {
                "disable": {"type": "boolean"},
                "error_response": {"oneOf": [{"type": "string"}, {"type": "object"}]},
                "priority": {"type": "integer"},
                "filter": {"type": "array"},
                "pre_function": {"type": "string"},
            },
            "additionalProperties": false,
        }))
    });
    if meta.is_null() {
        return Ok(());
    }
    let checked = SCHEMA.check(&mut meta.clone());
    checked.map_err(|error| format!("property \"_meta\" validation failed: {error}"))?;
    if meta.get("pre_function").is_some() {
        return Err("_meta.pre_function: Lua is not supported".to_owned());
    }
    Ok(())
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn error_body(value: &Value) -> Bytes {
    value.as_str().map_or_else(|| format!("{value}\n"), str::to_owned).into()
}

/// Compiles a resource's `plugins` in the order of their names; errors name the plugin.
pub(crate) fn compile_all(
    plugins: &Value,
    owner: impl Fn(&str) -> String,
    metadata: &Value,
) -> Result<Vec<Arc<Link>>, (String, String)> {
    let mut links = Vec::new();
    for (name, settings) in plugins.as_object().into_iter().flatten() {
        if !secret::resolve(&mut settings.clone(), &Environment) {
            tracing::warn!(plugin = %name, owner = owner(name), "a secret is not there");
        }
        let link = Link::compile(name, settings, &owner(name), &metadata[name.as_str()]);
        links.extend(link.map_err(|error| (name.clone(), error))?.map(Arc::new));
    }
    sort(&mut links);
    Ok(links)
}

/// Puts links into the order in which they run.
pub(crate) fn sort(links: &mut [Arc<Link>]) {
    links.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(b.name)));
}
