//! `proxy-rewrite`: what the upstream is told instead of what the client said.

use serde::Deserialize;
use serde_json::{Map, Value};
use weft_control_model::plugins::PluginView;
use weft_xds_proto::pb::envoy::config::core::v3::{
    HeaderValueOption, header_value_option::HeaderAppendAction,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::values::header_value;
use crate::envoy;
use crate::problem::Unsupported;

/// The configuration of `proxy-rewrite`.
#[derive(Debug, Deserialize)]
pub(super) struct ProxyRewrite {
    uri: Option<String>,
    #[serde(default)]
    regex_uri: Vec<String>,
    method: Option<String>,
    host: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    use_real_request_uri_unsafe: bool,
}

impl PluginView for ProxyRewrite {
    const NAME: &'static str = "proxy-rewrite";
}

/// What of a forwarded request changes.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    pub(super) path: Option<RegexMatchAndSubstitute>,
    pub(super) host: Option<String>,
    pub(super) headers_to_add: Vec<HeaderValueOption>,
    pub(super) headers_to_remove: Vec<String>,
}

impl ProxyRewrite {
    pub(super) fn translate(&self) -> Result<Rewrite, Unsupported> {
        if self.method.is_some() {
            return Err(Unsupported::new("method", "a proxy can't change the method"));
        }
        if self.use_real_request_uri_unsafe {
            let reason = "a proxy always forwards the normalised path";
            return Err(Unsupported::new("use_real_request_uri_unsafe", reason));
        }
        if let Some(host) = &self.host
            && host.contains('$')
        {
            return Err(Unsupported::new("host", "variables can't be used in a host"));
        }
        let path = match (&self.uri, self.regex_uri.as_slice()) {
            (Some(uri), _) => Some(fixed_path(uri)?),
            (None, []) => None,
            (None, pair) => Some(substitution(pair)?),
        };
        let mut rewrite = Rewrite { path, host: self.host.clone(), ..Default::default() };
        self.headers(&mut rewrite)?;
        Ok(rewrite)
    }

    fn headers(&self, rewrite: &mut Rewrite) -> Result<(), Unsupported> {
        let typed = ["add", "set", "remove"];
        let flat = !self.headers.is_empty()
            && !self.headers.iter().all(|(name, value)| {
                typed.contains(&name.as_str()) && (value.is_object() || value.is_array())
            });
        if flat {
            return set(&self.headers, HeaderAppendAction::OverwriteIfExistsOrAdd, rewrite);
        }
        if let Some(Value::Object(headers)) = self.headers.get("add") {
            set(headers, HeaderAppendAction::AppendIfExistsOrAdd, rewrite)?;
        }
        if let Some(Value::Object(headers)) = self.headers.get("set") {
            set(headers, HeaderAppendAction::OverwriteIfExistsOrAdd, rewrite)?;
        }
        if let Some(Value::Array(names)) = self.headers.get("remove") {
            let names = names.iter().filter_map(Value::as_str);
            rewrite.headers_to_remove.extend(names.map(str::to_ascii_lowercase));
        }
        Ok(())
    }
}

fn set(
    headers: &Map<String, Value>,
    action: HeaderAppendAction,
    rewrite: &mut Rewrite,
) -> Result<(), Unsupported> {
    for (name, value) in headers {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // An empty value removes, in the flat form.
        if text.is_empty() {
            rewrite.headers_to_remove.push(name.to_ascii_lowercase());
            continue;
        }
        let value = header_value(&text, &format!("headers.{name}"))?;
        rewrite.headers_to_add.push(envoy::header(&name.to_ascii_lowercase(), value, action));
    }
    Ok(())
}

/// Replaces the whole path, keeping the query.
fn fixed_path(uri: &str) -> Result<RegexMatchAndSubstitute, Unsupported> {
    if uri.contains('$') {
        return Err(Unsupported::new("uri", "variables can't be used; use regex_uri"));
    }
    if uri.contains('?') {
        return Err(Unsupported::new("uri", "a proxy can't add a query here"));
    }
    Ok(envoy::substitution("^.+$", uri.replace('\\', "\\\\")))
}

/// APISIX replaces the first match of the expression; Envoy replaces every match. So the
/// expression is widened to the whole path.
pub(super) fn substitution(pair: &[String]) -> Result<RegexMatchAndSubstitute, Unsupported> {
    let field = "regex_uri";
    let [expression, replacement] = pair else {
        return Err(Unsupported::new(field, "a proxy takes one expression and its replacement"));
    };
    let compiled = regex::Regex::new(expression).map_err(|error| {
        let reason = format!("{expression:?} is no regular expression for proxies (RE2): {error}");
        Unsupported::new(field, reason)
    })?;
    let groups = compiled.captures_len();
    if groups > 8 {
        return Err(Unsupported::new(field, "a proxy knows groups up to $7 here"));
    }
    let replacement = groups_moved(replacement, groups)?;
    let whole = format!("^(.*?)(?:{expression})(.*)$");
    Ok(envoy::substitution(whole, format!("\\1{replacement}\\{}", groups + 1)))
}

/// `$1` as `\2`, since the group before the match is the first.
fn groups_moved(replacement: &str, groups: usize) -> Result<String, Unsupported> {
    let mut moved = String::with_capacity(replacement.len());
    let mut characters = replacement.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => moved.push_str("\\\\"),
            '$' => {
                let group = characters.next().and_then(|digit| digit.to_digit(10));
                match group {
                    Some(group) if group > 0 && (group as usize) < groups => {
                        moved.push_str(&format!("\\{}", group + 1));
                    }
                    _ => {
                        let reason = "the replacement may use $1 to the expression's last group";
                        return Err(Unsupported::new("regex_uri", reason));
                    }
                }
            }
            other => moved.push(other),
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rewrite(json: Value) -> Result<Rewrite, Unsupported> {
        serde_json::from_value::<ProxyRewrite>(json).expect("a configuration").translate()
    }

    fn rewritten(pair: [&str; 2], path: &str) -> String {
        let rewrite = rewrite(json!({"regex_uri": pair})).expect("supported");
        let path_rewrite = rewrite.path.expect("a rewrite");
        let expression = path_rewrite.pattern.expect("a pattern").regex;
        let replacement = regex::Regex::new(r"\\(\d)").expect("a regex");
        let replacement = replacement.replace_all(&path_rewrite.substitution, "$${$1}");
        let whole = regex::Regex::new(&expression).expect("a regex");
        whole.replace_all(path, &*replacement).into_owned()
    }

    #[test]
    fn the_first_match_alone_is_replaced() {
        assert_eq!(rewritten(["^/a/(.*)/(.*)", "/$2/$1"], "/a/x/y"), "/y/x");
        assert_eq!(rewritten(["o", "0"], "/foo"), "/f0o");
        assert_eq!(rewritten(["zzz", "0"], "/foo"), "/foo");
    }

    #[test]
    fn headers_come_in_two_forms() {
        let flat = rewrite(json!({"headers": {"X-A": "1", "X-B": ""}})).expect("supported");
        assert_eq!(flat.headers_to_add.len(), 1);
        assert_eq!(flat.headers_to_remove, ["x-b"]);
        let json = json!({"headers": {"add": {"a": "1"}, "set": {"b": "2"}, "remove": ["C"]}});
        let typed = rewrite(json).expect("supported");
        assert_eq!((typed.headers_to_add.len(), typed.headers_to_remove.len()), (2, 1));
    }

    #[test]
    fn what_a_proxy_cannot_rewrite_is_told() {
        for (json, field) in [
            (json!({"method": "GET"}), "method"),
            (json!({"uri": "/$host"}), "uri"),
            (json!({"regex_uri": ["a", "b", "c", "d"]}), "regex_uri"),
            (json!({"regex_uri": ["(?=a)", "b"]}), "regex_uri"),
            (json!({"regex_uri": ["(a)", "$2"]}), "regex_uri"),
            (json!({"headers": {"a": "$consumer_name"}}), "headers.a"),
        ] {
            assert_eq!(rewrite(json).expect_err("unsupported").field, field);
        }
    }
}
