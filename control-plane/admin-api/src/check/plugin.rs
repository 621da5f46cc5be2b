//! Plugins: known ones only, each with what its schema can't say.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{Checked, vars};
use crate::error::AdminError;
use crate::schema;

/// Checks one plugin of a resource.
pub(super) fn check(name: &str, conf: &Value) -> Checked {
    let is_table = conf.is_object() || conf.is_array();
    if !is_table {
        return Err(AdminError::invalid(format!("invalid plugin conf {conf} for plugin [{name}]")));
    }
    let checked = match weft_plugins::check(name, conf) {
        Some(checked) => checked,
        None => {
            let mut full = conf.clone();
            let checked = schema::check_plugin(name, &mut full);
            let unknown = || AdminError::invalid(format!("unknown plugin [{name}]"));
            checked.ok_or_else(unknown)?.and_then(|()| own_rules(name, &full))
        }
    };
    let disabled = conf.pointer("/_meta/disable") == Some(&json!(true));
    match checked {
        Err(error) if !disabled => Err(failed(name, &error)),
        _ => meta(name, conf),
    }
}

/// Checks one plugin of a stream route.
pub(super) fn of_stream(name: &str, conf: &Value) -> Checked {
    if !schema::STREAM_PLUGINS.contains(&name) {
        return Err(AdminError::invalid(format!("unknown stream plugin [{name}]")));
    }
    let disabled = conf.pointer("/_meta/disable") == Some(&json!(true));
    match weft_plugins::check(name, conf) {
        Some(Err(error)) if !disabled => {
            let message =
                format!("failed to check the configuration of stream plugin [{name}]: {error}");
            Err(AdminError::Invalid(message))
        }
        _ => Ok(()),
    }
}

fn failed(name: &str, error: &str) -> AdminError {
    let message = format!("failed to check the configuration of plugin {name} err: {error}");
    AdminError::Invalid(message)
}

/// Checks what a consumer or a credential says of a plugin. A credential is
/// only for plugins that authenticate.
pub(super) fn of_consumer(name: &str, conf: &Value, is_credential: bool) -> Checked {
    let native = weft_plugins::check_consumer(name, conf);
    let checked = native.or_else(|| schema::check_authentication(name, &mut conf.clone()));
    if let Some(checked) = checked {
        return checked.map_err(|error| failed(name, &error));
    }
    if !is_credential {
        return check(name, conf);
    }
    let message = if schema::is_plugin(name) {
        format!("only supports auth type plugins in consumer credential, got {name}")
    } else {
        format!("unknown plugin [{name}]")
    };
    Err(AdminError::Invalid(message))
}

/// What runs differently from what `_meta` would say is refused.
fn meta(name: &str, conf: &Value) -> Checked {
    let Some(meta) = conf.get("_meta").and_then(Value::as_object) else {
        return Ok(());
    };
    if let Some(filter) = meta.get("filter") {
        vars(filter).map_err(AdminError::Invalid)?;
    }
    if meta.contains_key("pre_function") {
        let message =
            format!("failed to load _meta.pre_function in plugin {name}: Lua is not supported");
        return Err(AdminError::Invalid(message));
    }
    Ok(())
}

fn own_rules(name: &str, conf: &Value) -> Result<(), String> {
    match name {
        "traffic-split" => traffic_split(conf),
        "proxy-rewrite" => proxy_rewrite(conf),
        "redirect" => redirect(conf),
        _ => Ok(()),
    }
}

fn traffic_split(conf: &Value) -> Result<(), String> {
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    for rule in list(conf, "rules") {
        for alternative in list(&rule, "match") {
            match alternative.get("vars") {
                Some(rule) => vars(rule)?,
                None => {
                    let message = "failed to validate the 'vars' expression: missing argument rule";
                    return Err(message.to_owned());
                }
            }
        }
    }
    weft_control_model::Plugins(Map::from_iter([("traffic-split".to_owned(), conf.clone())]))
        .view::<weft_control_model::plugins::TrafficSplit>()
        .map(drop)
        .map_err(|error| error.to_string())
}

fn proxy_rewrite(conf: &Value) -> Result<(), String> {
    let pairs = texts(conf, "regex_uri");
    if !pairs.len().is_multiple_of(2) {
        return Err("The length of regex_uri should be an even number".to_owned());
    }
    for pair in pairs.chunks(2) {
        let (pattern, template) = (pair[0], pair[1]);
        Regex::new(pattern)
            .map_err(|error| format!("invalid regex_uri({pattern}, {template}): {error}"))?;
    }
    let headers = conf.get("headers").and_then(Value::as_object);
    let grouped = |headers: &Map<String, Value>| {
        ["add", "set", "remove"].iter().any(|name| headers.get(*name).is_some_and(is_table))
    };
    let flat = headers.filter(|headers| !grouped(headers));
    for (name, value) in flat.into_iter().flatten() {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err("invalid field character in header".to_owned());
        }
        let text = value.as_str().unwrap_or_default();
        if http::HeaderValue::from_str(text).is_err() {
            return Err("invalid value character in header".to_owned());
        }
    }
    Ok(())
}

fn redirect(conf: &Value) -> Result<(), String> {
    if let [pattern, template] = texts(conf, "regex_uri")[..] {
        Regex::new(pattern)
            .map_err(|error| format!("invalid regex_uri ({pattern}, {template}), err:{error}"))?;
    }
    let is_set = |name| conf.get(name) == Some(&Value::Bool(true));
    if is_set("http_to_https") && is_set("append_query_string") {
        let message = "only one of `http_to_https` and `append_query_string` can be configured.";
        return Err(message.to_owned());
    }
    Ok(())
}

fn texts<'a>(conf: &'a Value, name: &str) -> Vec<&'a str> {
    let items = conf.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

fn is_table(value: &Value) -> bool {
    value.is_object() || value.is_array()
}
