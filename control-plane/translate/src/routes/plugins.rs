//! What the plugins of a route make of its requests.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_control_model::plugins::{
    PluginView, TrafficSplit, TrafficSplitRule, WeightedTarget, is_translated,
};
use weft_control_model::{DecodeError, Plugins, Upstream};
use weft_xds_proto::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use weft_xds_proto::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;
use weft_xds_proto::pb::envoy::r#type::v3::{
    FractionalPercent, fractional_percent::DenominatorType,
};

use super::forward::Share;
use super::vars::{self, Conditions};
use crate::chain;
use crate::problem::Unsupported;
use crate::targets::{RouteContext, Target, Targets, referenced, within_plugin};

/// The view of one plugin, if it is there and switched on.
pub(super) fn view<T: PluginView>(plugins: &Plugins) -> Result<Option<T>, Unsupported> {
    plugins.view().map_err(|DecodeError { path, reason }| {
        Unsupported::new(format!("plugins.{}.{path}", T::NAME), reason)
    })
}

/// Refuses what nobody runs, and what a proxy would refuse: a request must not be served without
/// it in silence.
pub(super) fn refuse_unknown(plugins: &Plugins) -> Result<(), Unsupported> {
    for name in plugins.0.keys() {
        let Some(config) = plugins.enabled(name) else { continue };
        let field = format!("plugins.{name}");
        if let Some(checked) = chain::checked(name, config) {
            checked.map_err(|reason| Unsupported::new(field, reason))?;
            continue;
        }
        if !is_translated(name) {
            return Err(Unsupported::new(field, "this plugin isn't run yet"));
        }
        let options = config.get("_meta").and_then(Value::as_object);
        if let Some(option) = options.and_then(|meta| meta.keys().find(|key| *key != "disable")) {
            let reason = "of the options, only disable is known for this plugin";
            return Err(Unsupported::new(format!("{field}._meta.{option}"), reason));
        }
    }
    Ok(())
}

/// One rule of `traffic-split`: the alternatives of its conditions, and the shares.
pub(super) struct Split {
    pub(super) conditions: Vec<Conditions>,
    pub(super) shares: Vec<Share>,
}

impl Split {
    /// Whether it holds for every request.
    pub(super) fn is_unconditional(&self) -> bool {
        self.conditions.contains(&Conditions::default())
    }
}

/// The rules of `traffic-split`, in order.
pub(super) fn splits(
    context: &RouteContext<'_>,
    plugins: &Plugins,
    own: Option<&Target>,
) -> Result<Vec<Split>, Unsupported> {
    let Some(plugin) = view::<TrafficSplit>(plugins)? else { return Ok(Vec::new()) };
    let rules = plugin.rules.iter().enumerate();
    rules
        .map(|(index, rule)| {
            let field = format!("plugins.traffic-split.rules[{index}]");
            split(context, index, rule, own).map_err(|error| error.within(&field))
        })
        .collect()
}

fn split(
    context: &RouteContext<'_>,
    index: usize,
    rule: &TrafficSplitRule,
    own: Option<&Target>,
) -> Result<Split, Unsupported> {
    let mut conditions = Vec::new();
    for alternative in &rule.matches {
        match &alternative.vars {
            None => conditions.push(Conditions::default()),
            Some(vars) => conditions.extend(vars::alternatives(&vars.expr)?),
        }
    }
    if rule.matches.is_empty() {
        conditions.push(Conditions::default());
    }
    let mut shares = Vec::new();
    for (place, weighted) in rule.weighted_upstreams.iter().enumerate() {
        if weighted.weight == 0 {
            continue;
        }
        let target = match &weighted.target {
            WeightedTarget::Own => own.cloned().ok_or_else(|| {
                Unsupported::new("weighted_upstreams", "the route has no upstream of its own")
            })?,
            WeightedTarget::Reference(id) => referenced(context.resources, id)?,
            WeightedTarget::Inline(upstream) => {
                let owner = context.plugin_owner(TrafficSplit::NAME);
                let place = format!("split/{index}/{place}");
                within_plugin(owner, &place, Arc::clone(upstream))
            }
        };
        shares.push((target, weighted.weight));
    }
    if shares.is_empty() {
        return Err(Unsupported::new("weighted_upstreams", "all weights are 0"));
    }
    Ok(Split { conditions, shares })
}

/// The configuration of `proxy-mirror`.
#[derive(Debug, Deserialize)]
struct ProxyMirror {
    host: String,
    path: Option<String>,
    sample_ratio: Option<f64>,
}

impl PluginView for ProxyMirror {
    const NAME: &'static str = "proxy-mirror";
}

/// Where copies of the requests go, and how many of them.
pub(super) fn mirror(
    context: &RouteContext<'_>,
    plugins: &Plugins,
) -> Result<Option<(Target, RequestMirrorPolicy)>, Unsupported> {
    let Some(plugin) = view::<ProxyMirror>(plugins)? else { return Ok(None) };
    let within = |error: Unsupported| error.within("plugins.proxy-mirror");
    if plugin.path.is_some() {
        return Err(within(Unsupported::new("path", "a proxy mirrors to the same path")));
    }
    let upstream = mirror_upstream(&plugin.host).map_err(within)?;
    let owner = context.plugin_owner(ProxyMirror::NAME);
    let target = within_plugin(owner, "mirror", Arc::new(upstream));
    let policy = RequestMirrorPolicy {
        cluster: target.cluster.clone(),
        runtime_fraction: plugin.sample_ratio.map(fraction),
        disable_shadow_host_suffix_append: true,
        ..Default::default()
    };
    Ok(Some((target, policy)))
}

/// The servers that the plugins of a route and the global rules ask, as clusters.
pub(super) fn callouts(
    context: &RouteContext<'_>,
    plugins: &Plugins,
) -> Result<Targets, Unsupported> {
    let rules = chain::global_plugins(context.resources);
    let own = plugins.0.keys().filter_map(|name| Some((name, plugins.enabled(name)?)));
    let rules = rules.iter().flat_map(|rule| &rule.0);
    let mut targets = Targets::new();
    for (name, settings) in own.chain(rules) {
        let definition = weft_plugins::definition(name);
        let Some(asked) = definition.and_then(|one| one.callout(settings)) else { continue };
        let nodes = Map::from_iter([(asked.node.clone(), json!(1))]);
        let mut upstream = json!({"scheme": asked.scheme, "nodes": nodes, "retries": 0});
        if asked.scheme == "https" {
            upstream["pass_host"] = json!("node");
            upstream["tls"] = json!({"verify": asked.verify});
        }
        let upstream = Upstream::from_json(&upstream)
            .map_err(|error| Unsupported::new(format!("plugins.{name}"), error.reason))?;
        let (owner, upstream) = (context.plugin_owner(name), Arc::new(upstream));
        let cluster = asked.cluster;
        targets.insert(cluster.clone(), Target { cluster, upstream, owner });
    }
    Ok(targets)
}

/// `http://host:port`
fn mirror_upstream(host: &str) -> Result<Upstream, Unsupported> {
    let wrong = |reason: &str| Unsupported::new("host", format!("{host:?}: {reason}"));
    let (scheme, node) =
        host.split_once("://").ok_or_else(|| wrong("expected http://host:port"))?;
    let node = node.trim_end_matches('/');
    let mut nodes = Map::new();
    nodes.insert(node.to_owned(), json!(1));
    Upstream::from_json(&json!({"scheme": scheme, "nodes": nodes, "retries": 0}))
        .map_err(|error| wrong(&error.reason))
}

fn fraction(ratio: f64) -> RuntimeFractionalPercent {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a million")]
    let numerator = (ratio.clamp(0.0, 1.0) * 1_000_000.0).round() as u32;
    let percent = FractionalPercent { numerator, denominator: DenominatorType::Million.into() };
    RuntimeFractionalPercent { default_value: Some(percent), ..Default::default() }
}
