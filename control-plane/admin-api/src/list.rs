//! Lists: filters and pages.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};
use weft_control_model::ResourceKind;
use weft_store::Entry;

use crate::error::AdminError;
use crate::reply::{Reply, envelope};
use crate::request::Query;

/// The answer to a list of `kind`.
pub(crate) fn reply(
    kind: ResourceKind,
    query: &Query,
    mut items: Vec<(Entry, Value)>,
) -> Result<Reply, AdminError> {
    let filters = Filters::new(kind, query);
    items.retain(|(_, value)| filters.pass(value));
    let total = items.len();
    let list = match page(query)? {
        None => items,
        Some((page, size)) => {
            items.sort_by_key(|(entry, _)| entry.created);
            let skipped = (page - 1).saturating_mul(size);
            items.into_iter().skip(skipped).take(size).collect()
        }
    };
    let list: Vec<_> = list.iter().map(|(entry, value)| envelope(entry, value)).collect();
    Ok(Reply::ok(json!({"total": total, "list": list})))
}

/// `page` and `page_size`, when both are numbers.
fn page(query: &Query) -> Result<Option<(usize, usize)>, AdminError> {
    let number = |name| query.get(name).and_then(|text| text.trim().parse::<i64>().ok());
    let (Some(page), Some(size)) = (number("page"), number("page_size")) else {
        return Ok(None);
    };
    let size = usize::try_from(size).ok().filter(|size| (10..=500).contains(size));
    let size = size.ok_or(AdminError::PageSize)?;
    Ok(Some((usize::try_from(page).unwrap_or(1).max(1), size)))
}

/// All of these must pass.
struct Filters<'a> {
    /// A regular expression; `Some(None)` is one that can't be compiled and
    /// matches nothing.
    name: Option<Option<Regex>>,
    uri: Option<Option<Regex>>,
    label: Option<&'a str>,
    /// Fields with their exact values; of several for one field the last counts.
    fields: BTreeMap<String, String>,
}

impl<'a> Filters<'a> {
    fn new(kind: ResourceKind, query: &'a Query) -> Self {
        let known: &[&str] = match kind {
            ResourceKind::Route | ResourceKind::StreamRoute => &["service_id", "upstream_id"],
            _ => &[],
        };
        let filter = Query::parse(query.get("filter").unwrap_or_default());
        let fields = filter.iter().filter(|(name, _)| known.contains(name));
        let expression = |name| query.get(name).map(|text| Regex::new(text).ok());
        Self {
            name: expression("name"),
            uri: expression("uri"),
            label: query.get("label"),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        }
    }

    fn pass(&self, value: &Value) -> bool {
        let found = |expression: &Option<Regex>, text: Option<&Value>| {
            let text = text.and_then(Value::as_str);
            expression.as_ref().zip(text).is_some_and(|(regex, text)| regex.is_match(text))
        };
        let name = self.name.as_ref().is_none_or(|name| found(name, value.get("name")));
        let uri = self.uri.as_ref().is_none_or(|uri| {
            let uris = value.get("uris").and_then(Value::as_array).into_iter().flatten();
            value.get("uri").into_iter().chain(uris).any(|text| found(uri, Some(text)))
        });
        let labels = value.get("labels");
        let label = self.label.is_none_or(|key| labels.and_then(|all| all.get(key)).is_some());
        name && uri && label && self.fields.iter().all(|(name, wanted)| same(value, name, wanted))
    }
}

/// Whether the field is there with this value; a number equals its digits.
fn same(value: &Value, name: &str, wanted: &str) -> bool {
    match value.get(name) {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Number(number)) => number.to_string() == wanted,
        _ => false,
    }
}
