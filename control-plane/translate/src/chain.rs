//! The plugins that proxies run themselves, as they travel: one chain for each route, and the
//! consumers for each virtual host whose routes ask who is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use weft_control_model::{
    Item, KeptFields, Plugins, ResourceId, ResourceKey, ResourceKind, Resources,
};
use weft_xds_proto::TypedStruct;
use weft_xds_proto::pb::google::protobuf::Any;

use xxhash_rust::xxh64::xxh64;

use crate::problem::{Problem, Unsupported};
use crate::targets::RouteContext;

/// The most answers that are remembered.
const MOST_CHECKED: usize = 65_536;

/// The filter that runs chains.
const PLUGINS: &str = "weft.plugins";
/// The filter that runs those that look into bodies.
const PLUGINS_WITH_BODIES: &str = "weft.plugins.bodies";
/// The filter that knows the consumers.
pub(crate) const CONSUMERS: &str = "weft.consumers";

const CHAIN_TYPE: &str = "type.googleapis.com/weft.plugins.v1.Chain";
const CONSUMERS_TYPE: &str = "type.googleapis.com/weft.plugins.v1.Consumers";

/// A route's chain.
pub(crate) struct RouteChain {
    /// The filter that runs it.
    pub(crate) filter: &'static str,
    pub(crate) config: Any,
    /// Whether it asks who is there.
    pub(crate) authenticates: bool,
}

/// The filters as listeners have them: they run only where a route or virtual host says what. The
/// consumers come first.
pub(crate) fn filters() -> [(&'static str, Any); 3] {
    let empty = |type_url| TypedStruct::pack(type_url, &Map::new());
    let with_bodies = Map::from_iter([("uses_io".to_owned(), Value::Bool(true))]);
    [
        (CONSUMERS, empty(CONSUMERS_TYPE)),
        (PLUGINS, empty(CHAIN_TYPE)),
        (PLUGINS_WITH_BODIES, TypedStruct::pack(CHAIN_TYPE, &with_bodies)),
    ]
}

/// The filter that a chain needs; consumers may bring plugins, too.
fn filter_for(
    own: &Map<String, Value>,
    authenticates: bool,
    resources: &Resources,
) -> &'static str {
    let uses_io = |plugins: &Map<String, Value>| {
        plugins.iter().any(|(name, settings)| {
            weft_plugins::definition(name).is_some_and(|plugin| plugin.uses_io(settings))
        })
    };
    let kept_uses_io = |kind| {
        let mut kept = resources.kept.of(kind);
        kept.any(|item| uses_io(&plugins_of(&item.value)))
    };
    let by_consumers = authenticates
        && (kept_uses_io(ResourceKind::Consumer) || kept_uses_io(ResourceKind::ConsumerGroup));
    if uses_io(own) || kept_uses_io(ResourceKind::GlobalRule) || by_consumers {
        PLUGINS_WITH_BODIES
    } else {
        PLUGINS
    }
}

/// The chain of a route; none if there is nothing to run.
pub(crate) fn of_route(context: &RouteContext<'_>, plugins: &Plugins) -> Option<RouteChain> {
    let own = native(&plugins.0);
    let mut chain = global(context.resources);
    if own.is_empty() && chain.is_empty() {
        return None;
    }
    let authenticates = authenticates(&own) || global_authenticates(context.resources);
    let filter = filter_for(&own, authenticates, context.resources);
    let owner = context.key.to_string();
    let owners: BTreeMap<_, _> = own
        .keys()
        .map(|name| (name.clone(), context.plugin_owner(name).to_string()))
        .filter(|(_, other)| *other != owner)
        .collect();
    if !owners.is_empty() {
        chain.insert("owners".to_owned(), json!(owners));
    }
    chain.insert("owner".to_owned(), owner.into());
    add_metadata(&mut chain, context.resources, own.keys());
    chain.insert("plugins".to_owned(), own.into());
    chain.extend(place(context));
    Some(RouteChain { filter, config: TypedStruct::pack(CHAIN_TYPE, &chain), authenticates })
}

/// The chain of requests that no route matches: the global rules.
pub(crate) fn without_route(resources: &Resources) -> Option<RouteChain> {
    let chain = global(resources);
    let authenticates = global_authenticates(resources);
    let filter = filter_for(&Map::new(), authenticates, resources);
    (!chain.is_empty()).then(|| RouteChain {
        filter,
        config: TypedStruct::pack(CHAIN_TYPE, &chain),
        authenticates,
    })
}

/// Every consumer.
pub(crate) fn consumers(resources: &Resources) -> Any {
    let kept = |kind| resources.kept.of(kind);
    let credentials: Vec<_> = kept(ResourceKind::Credential).collect();
    let consumers: Vec<_> =
        kept(ResourceKind::Consumer).map(|item| consumer(item, &credentials)).collect();
    let groups: Map<_, _> = kept(ResourceKind::ConsumerGroup)
        .map(|item| (item.id.to_string(), native(&plugins_of(&item.value)).into()))
        .collect();
    let mut fields = Map::new();
    let names: Vec<_> = consumers
        .iter()
        .chain(groups.values().map(|_| &Value::Null))
        .filter_map(|consumer| consumer["plugins"].as_object())
        .chain(groups.values().filter_map(Value::as_object))
        .flat_map(Map::keys)
        .cloned()
        .collect();
    add_metadata(&mut fields, resources, names.iter());
    fields.insert("consumers".to_owned(), consumers.into());
    fields.insert("groups".to_owned(), groups.into());
    TypedStruct::pack(CONSUMERS_TYPE, &fields)
}

fn consumer(item: &Item<KeptFields>, credentials: &[&Item<KeptFields>]) -> Value {
    let prefix = format!("{}/credentials/", item.id);
    let own: Map<_, _> = credentials
        .iter()
        .filter_map(|credential| {
            let id = credential.id.as_str().strip_prefix(&prefix)?;
            Some((id.to_owned(), native(&plugins_of(&credential.value)).into()))
        })
        .collect();
    let mut consumer = json!({
        "username": item.id,
        "plugins": native(&plugins_of(&item.value)),
    });
    if !own.is_empty() {
        consumer["credentials"] = own.into();
    }
    if let Some(labels) = item.value.get("labels") {
        consumer["labels"] = labels.clone();
    }
    if let Some(Value::String(group)) = item.value.get("group_id") {
        consumer["group_id"] = group.as_str().into();
    } else if let Some(group) = item.value.get("group_id") {
        consumer["group_id"] = group.to_string().into();
    }
    consumer
}

fn place(context: &RouteContext<'_>) -> Map<String, Value> {
    let mut place = Map::new();
    let mut add = |name: &str, value: Option<String>| {
        place.extend(value.map(|value| (name.to_owned(), Value::from(value))));
    };
    if context.key.kind == ResourceKind::Route {
        add("route_id", Some(context.key.id.to_string()));
        add("route_name", context.route.name.clone());
    }
    add("service_id", context.service.map(|service| service.id.to_string()));
    add("service_name", context.service.and_then(|service| service.value.name.clone()));
    place.insert("uris".to_owned(), json!(context.route.uris));
    place.insert("hosts".to_owned(), json!(context.hosts()));
    place
}

/// The plugins of the global rules.
pub(crate) fn global_plugins(resources: &Resources) -> Vec<Plugins> {
    let rules = resources.kept.of(ResourceKind::GlobalRule);
    rules.map(|item| Plugins(native(&plugins_of(&item.value)))).collect()
}

/// The global rules as part of a chain.
fn global(resources: &Resources) -> Map<String, Value> {
    let mut rules = Vec::new();
    let mut names = Vec::new();
    for item in resources.kept.of(ResourceKind::GlobalRule) {
        let plugins = native(&plugins_of(&item.value));
        if !plugins.is_empty() {
            names.extend(plugins.keys().cloned());
            let key = ResourceKey::new(ResourceKind::GlobalRule, item.id.clone());
            rules.push(json!({"owner": key.to_string(), "plugins": plugins}));
        }
    }
    let mut chain = Map::new();
    if !rules.is_empty() {
        chain.insert("global".to_owned(), rules.into());
        add_metadata(&mut chain, resources, names.iter());
    }
    chain
}

fn global_authenticates(resources: &Resources) -> bool {
    let mut rules = resources.kept.of(ResourceKind::GlobalRule);
    rules.any(|item| authenticates(&plugins_of(&item.value)))
}

fn authenticates(plugins: &Map<String, Value>) -> bool {
    let mut definitions = plugins.keys().filter_map(|name| weft_plugins::definition(name));
    definitions.any(|definition| definition.authenticates)
}

/// The plugins that proxies run, of those that are written down.
fn native(plugins: &Map<String, Value>) -> Map<String, Value> {
    let fine = |name: &str, settings: &Value| {
        let as_consumer = || weft_plugins::check_consumer(name, settings);
        checked(name, settings).is_some_and(|checked| checked.is_ok())
            || as_consumer().is_some_and(|checked| checked.is_ok())
    };
    let known = plugins.iter().filter(|(name, settings)| fine(name, settings));
    known.map(|(name, settings)| (name.clone(), settings.clone())).collect()
}

/// Whether a proxy will take the settings of a plugin; `None` if it does not run the plugin. The
/// answer is remembered: settings are asked for at each change of anything.
pub(crate) fn checked(name: &str, settings: &Value) -> Option<Result<(), String>> {
    static KNOWN: LazyLock<Mutex<HashMap<u64, Result<(), String>>>> = LazyLock::new(Mutex::default);
    weft_plugins::definition(name)?;
    if settings.pointer("/_meta/disable") == Some(&Value::Bool(true)) {
        return Some(Ok(()));
    }
    let key = xxh64(format!("{name}\0{settings}").as_bytes(), 0);
    if let Some(known) = KNOWN.lock().get(&key) {
        return Some(known.clone());
    }
    let checked = weft_plugins::check(name, settings)?;
    let mut known = KNOWN.lock();
    if known.len() >= MOST_CHECKED {
        known.clear();
    }
    known.insert(key, checked.clone());
    Some(checked)
}

/// What of consumers and rules is not run, and why.
pub(crate) fn problems(resources: &Resources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for kind in [
        ResourceKind::GlobalRule,
        ResourceKind::Consumer,
        ResourceKind::Credential,
        ResourceKind::ConsumerGroup,
    ] {
        for item in resources.kept.of(kind) {
            let key = ResourceKey::new(kind, item.id.clone());
            let told = |name: &String, reason: &str| {
                let problem = Unsupported::new(format!("plugins.{name}"), reason).of(&key);
                Problem { served: true, ..problem }
            };
            for (name, settings) in &plugins_of(&item.value) {
                let of_consumer = matches!(kind, ResourceKind::Consumer | ResourceKind::Credential);
                let as_consumer =
                    of_consumer.then(|| weft_plugins::check_consumer(name, settings)).flatten();
                match as_consumer.or_else(|| checked(name, settings)) {
                    Some(Ok(())) => {}
                    Some(Err(reason)) => problems.push(told(name, &reason)),
                    None => problems.push(told(name, "proxies run this plugin on routes only")),
                }
            }
        }
    }
    problems
}

fn plugins_of(fields: &KeptFields) -> Map<String, Value> {
    fields.get("plugins").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn add_metadata<'a>(
    chain: &mut Map<String, Value>,
    resources: &Resources,
    names: impl Iterator<Item = &'a String>,
) {
    let mut all = chain.remove("metadata").and_then(|all| match all {
        Value::Object(all) => Some(all),
        _ => None,
    });
    for name in names {
        let Ok(id) = name.parse::<ResourceId>() else { continue };
        let key = ResourceKey::new(ResourceKind::PluginMetadata, id);
        if let Some(item) = resources.kept.get(&key) {
            let metadata = Value::Object((*item.value).clone());
            all.get_or_insert_default().insert(name.clone(), metadata);
        }
    }
    chain.extend(all.map(|all| ("metadata".to_owned(), Value::Object(all))));
}
