//! `envoy.filters.http.header_to_metadata`: writes headers and cookies to dynamic metadata.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use http::header::COOKIE;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName};
use regex::Regex;
use serde_json::Value;
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_telemetry::Annotations;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// Longer values are left out, bytes.
const LONGEST: usize = 8 << 10;

/// `Config`, compiled; a route's takes the place of the filter's.
#[derive(Debug)]
pub(crate) struct HeaderToMetadata {
    request: Vec<Rule>,
    response: Vec<Rule>,
}

/// `Rule`
#[derive(Debug)]
struct Rule {
    source: Source,
    present: Option<Target>,
    missing: Option<Target>,
}

#[derive(Debug)]
enum Source {
    Header { name: HeaderName, remove: bool },
    Cookie(String),
}

/// `KeyValuePair`
#[derive(Debug)]
struct Target {
    namespace: String,
    key: String,
    /// `value`: in place of what was found.
    fixed: Option<String>,
    /// `regex_value_rewrite`
    rewrite: Option<(Regex, String)>,
    /// `type: NUMBER`
    number: bool,
    /// `encode: BASE64`
    base64: bool,
}

impl Source {
    fn take(&self, headers: &mut HeaderMap) -> Option<String> {
        match self {
            Self::Header { name, remove } => {
                let all: Vec<_> = headers.get_all(name).iter().collect();
                let all: Vec<_> =
                    all.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
                let value = (!all.is_empty()).then(|| all.join(","));
                if *remove {
                    headers.remove(name);
                }
                value
            }
            Self::Cookie(name) => {
                let values = headers.get_all(COOKIE).iter();
                let values = values.filter_map(|value| value.to_str().ok());
                let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| {
                    let (key, value) = pair.trim().split_once('=')?;
                    Some((key, value.trim_matches('"')))
                });
                let found = pairs.find(|(key, value)| key == name && !value.is_empty());
                found.map(|(_, value)| value.to_owned())
            }
        }
    }
}

impl Target {
    /// The value to write; what can't be written is left out.
    fn value(&self, found: String) -> Option<Value> {
        let text = match (&self.fixed, &self.rewrite) {
            (Some(fixed), _) => fixed.clone(),
            (None, Some((regex, with))) => regex.replace_all(&found, with.as_str()).into_owned(),
            (None, None) => found,
        };
        if text.is_empty() || text.len() >= LONGEST {
            return None;
        }
        let text = if self.base64 {
            let bytes = BASE64_STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
            String::from_utf8(bytes).ok().filter(|text| !text.is_empty())?
        } else {
            text
        };
        if !self.number {
            return Some(Value::String(text));
        }
        let number: f64 = text.trim().parse().ok()?;
        // A whole number is shown as one.
        text.trim().parse::<i64>().map(Value::from).ok().or_else(|| Some(Value::from(number)))
    }
}

fn apply(rules: &[Rule], headers: &mut HeaderMap, cx: &mut StreamCx) {
    let mut said = Annotations::default();
    for rule in rules {
        let found = rule.source.take(headers);
        let target = if found.is_some() { &rule.present } else { &rule.missing };
        let Some(target) = target else { continue };
        if let Some(value) = target.value(found.unwrap_or_default()) {
            said.set(&target.namespace, &target.key, value);
        }
    }
    if said != Annotations::default() {
        cx.annotate().merge(said);
    }
}

impl HeaderToMetadata {
    fn on<'a>(&'a self, route: Option<&'a RouteFilterConfig>) -> &'a Self {
        route.and_then(|route| route.downcast_ref::<Self>()).unwrap_or(self)
    }
}

impl HttpFilter for HeaderToMetadata {
    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        apply(&self.on(route).request, &mut head.headers, cx);
        Flow::Continue
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        apply(&self.on(route).response, &mut head.headers, cx);
        Flow::Continue
    }
}
