//! Where requests carry tokens.

use std::borrow::Cow;

use http::header::COOKIE;
use http::request::Parts as RequestHead;
use http::uri::PathAndQuery;
use http::{HeaderName, Uri};

/// A place for tokens.
#[derive(Clone, Debug)]
pub(super) enum Location {
    /// `from_headers`: what follows the prefix, wherever that stands.
    Header { name: HeaderName, prefix: String },
    /// `from_params`
    Query(String),
    /// `from_cookies`
    Cookie(String),
}

impl Location {
    /// The tokens that stand here.
    pub(super) fn tokens(&self, head: &RequestHead) -> Vec<String> {
        match self {
            Self::Header { name, prefix } => {
                let values = head.headers.get_all(name).iter();
                let values = values.filter_map(|value| value.to_str().ok());
                values.filter_map(|value| after(value, prefix)).map(str::to_owned).collect()
            }
            Self::Query(name) => {
                let query = head.uri.query().unwrap_or_default();
                let mut pairs = form_urlencoded::parse(query.as_bytes());
                pairs
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.into_owned())
                    .into_iter()
                    .collect()
            }
            Self::Cookie(name) => {
                let values = head.headers.get_all(COOKIE).iter();
                let values = values.filter_map(|value| value.to_str().ok());
                let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| {
                    let (key, value) = pair.trim().split_once('=')?;
                    Some((key, value.trim_matches('"')))
                });
                pairs
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.to_owned())
                    .into_iter()
                    .collect()
            }
        }
    }

    /// Takes the tokens out of the request; cookies stay, as in Envoy.
    pub(super) fn remove(&self, head: &mut RequestHead) {
        match self {
            Self::Header { name, .. } => {
                head.headers.remove(name);
            }
            Self::Query(name) => remove_parameter(head, name),
            Self::Cookie(_) => {}
        }
    }
}

/// What follows the prefix; the value as it is where no token does.
fn after<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let rest = &value[value.find(prefix)? + prefix.len()..];
    let begins = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(rest.find(begins).map_or(value, |at| &rest[at..]))
}

fn remove_parameter(head: &mut RequestHead, name: &str) {
    let Some(query) = head.uri.query() else { return };
    let named = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default();
        let key =
            form_urlencoded::parse(key.as_bytes()).next().map_or(Cow::Borrowed(""), |(key, _)| key);
        key != name
    };
    let kept: Vec<&str> = query.split('&').filter(named).collect();
    let path = head.uri.path();
    let whole =
        if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = head.uri.clone().into_parts();
    let Ok(path) = PathAndQuery::try_from(whole) else { return };
    parts.path_and_query = Some(path);
    if let Ok(uri) = Uri::from_parts(parts) {
        head.uri = uri;
    }
}
