//! What a schema can't say: references, rules, certificates, plugins.

mod certificate;
mod kept;
mod plugin;
mod reference;
mod upstream;

use regex::Regex;
use serde_json::{Map, Value};
use weft_control_model::{Change, Expr, Operator, ResourceKey, ResourceKind, Resources, Vars};
use weft_store::Store;

use crate::error::AdminError;
use crate::schema;

pub(crate) use reference::unreferenced;

type Checked = Result<(), AdminError>;

/// Checks a resource before it is stored. `conf` stays as its author wrote
/// it: defaults are filled into a copy.
pub(crate) async fn resource(
    store: &dyn Store,
    key: &ResourceKey,
    conf: &Map<String, Value>,
) -> Checked {
    let mut full = Value::Object(conf.clone());
    let kind = key.kind;
    match kind {
        ResourceKind::Route => {
            one_of(conf, "host")?;
            one_of(conf, "remote_addr")?;
            schema::check(kind, &mut full).map_err(AdminError::configuration)?;
            nested(store, &full).await?;
            if let Some(rule) = conf.get("vars") {
                vars(rule).map_err(AdminError::Invalid)?;
            }
            no_lua(conf)?;
        }
        ResourceKind::Service => {
            schema::check(kind, &mut full).map_err(AdminError::configuration)?;
            nested(store, &full).await?;
            no_lua(conf)?;
        }
        ResourceKind::Upstream => {
            upstream::nodes(&full)?;
            schema::check(kind, &mut full).map_err(AdminError::configuration)?;
            upstream::check(store, &full).await?;
        }
        ResourceKind::Ssl => {
            schema::check(kind, &mut full).map_err(AdminError::configuration)?;
            certificate::ssl(&full)?;
        }
        ResourceKind::PeerAuthentication
        | ResourceKind::AuthorizationPolicy
        | ResourceKind::Mesh => {
            schema::check(kind, &mut full).map_err(AdminError::configuration)?;
        }
        ResourceKind::Secret => {
            let manager = key.id.as_str().split('/').next().unwrap_or_default();
            let checked = schema::check_secret(manager, &mut full);
            let unknown = || AdminError::invalid("invalid secret manager: ".to_owned() + manager);
            checked.ok_or_else(unknown)?.map_err(AdminError::configuration)?;
        }
        _ => {
            schema::check(kind, &mut full).map_err(AdminError::configuration)?;
            kept::check(store, key, conf, &full).await?;
        }
    }
    typed(key, conf)
}

/// Compiles a rule, also its regular expressions.
///
/// # Errors
/// The whole message.
fn vars(rule: &Value) -> Result<(), String> {
    let failed = |error: String| format!("failed to validate the 'vars' expression: {error}");
    let vars = Vars::compile(rule.clone()).map_err(|error| failed(error.to_string()))?;
    expressions(&vars.expr).map_err(failed)
}

fn expressions(expr: &Expr) -> Result<(), String> {
    match expr {
        Expr::And(operands) | Expr::Or(operands) => operands.iter().try_for_each(expressions),
        Expr::Not(operand) => expressions(operand),
        Expr::Compare { operator, value, .. } => {
            let is_regex = matches!(operator, Operator::Matches | Operator::MatchesIgnoringCase);
            match value.as_str().filter(|_| is_regex) {
                Some(pattern) => {
                    let compiled = Regex::new(pattern);
                    compiled.map(drop).map_err(|_| format!("invalid regex '{pattern}'"))
                }
                None => Ok(()),
            }
        }
    }
}

/// The inline upstream, references and plugins of a route or service.
async fn nested(store: &dyn Store, full: &Value) -> Checked {
    if let Some(inline) = full.get("upstream") {
        upstream::nodes(inline)?;
        upstream::check(store, inline).await?;
    }
    reference::exists(store, full, "upstream_id", ResourceKind::Upstream).await?;
    reference::exists(store, full, "service_id", ResourceKind::Service).await?;
    reference::exists(store, full, "plugin_config_id", ResourceKind::PluginConfig).await?;
    match full.get("plugins").and_then(Value::as_object) {
        Some(plugins) => plugins.iter().try_for_each(|(name, conf)| plugin::check(name, conf)),
        None => Ok(()),
    }
}

fn one_of(conf: &Map<String, Value>, field: &str) -> Checked {
    if conf.contains_key(field) && conf.contains_key(&format!("{field}s")) {
        return Err(AdminError::invalid(format!("only one of {field} or {field}s is allowed")));
    }
    Ok(())
}

/// APISIX would run these as Lua.
fn no_lua(conf: &Map<String, Value>) -> Checked {
    for (field, instead) in [("filter_func", "`vars`"), ("script", "`plugins`")] {
        if conf.contains_key(field) {
            let message =
                format!("failed to load '{field}' string: Lua is not supported, use {instead}");
            return Err(AdminError::invalid(message));
        }
    }
    Ok(())
}

/// What is stored must be readable by those who translate it.
fn typed(key: &ResourceKey, conf: &Map<String, Value>) -> Checked {
    if key.kind == ResourceKind::Mesh {
        return Ok(());
    }
    let value = Some(Value::Object(conf.clone()));
    let change = Change { key: key.clone(), value, created: 1, modified: 1 };
    Resources::default().apply(&change).map_err(AdminError::configuration)
}
