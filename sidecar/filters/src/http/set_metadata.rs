//! `envoy.filters.http.set_metadata`: writes fixed values to dynamic metadata.

use http::request::Parts as RequestHead;
use serde_json::map::Entry;
use serde_json::{Map, Value};
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// The filter.
#[derive(Debug)]
pub(crate) struct SetMetadata(Vec<Addition>);

/// `Metadata`
#[derive(Debug)]
struct Addition {
    namespace: String,
    /// `allow_overwrite`: is merged into a namespace that is there; else that one stays as it is.
    overwrite: bool,
    value: Map<String, Value>,
}

impl HttpFilter for SetMetadata {
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        _: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        for addition in &self.0 {
            let said = cx.annotate();
            if said.namespace(&addition.namespace).is_some() && !addition.overwrite {
                continue;
            }
            merge(said.namespace_mut(&addition.namespace), &addition.value);
        }
        Flow::Continue
    }
}

/// Lists are appended, objects merged, everything else replaced.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match into.entry(key.clone()) {
            Entry::Vacant(place) => {
                place.insert(value.clone());
            }
            Entry::Occupied(mut place) => match (place.get_mut(), value) {
                (Value::Array(old), Value::Array(new)) => old.extend(new.iter().cloned()),
                (Value::Object(old), Value::Object(new)) => merge(old, new),
                (old, new) => *old = new.clone(),
            },
        }
    }
}
