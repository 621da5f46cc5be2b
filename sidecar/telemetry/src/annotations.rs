//! What filters say about a stream or a connection, for logs, headers and other filters.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Dynamic metadata and filter state; kept only for streams and connections that have any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations {
    metadata: BTreeMap<String, Map<String, Value>>,
    state: BTreeMap<String, Value>,
}

impl Annotations {
    /// Dynamic metadata: the fields of a namespace, which is a filter's name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Map<String, Value>> {
        self.metadata.get(name)
    }

    /// Dynamic metadata: all namespaces with their fields.
    pub fn namespaces(&self) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
        self.metadata.iter()
    }

    /// The fields of a namespace, to change; an empty namespace is made where there is none.
    pub fn namespace_mut(&mut self, name: &str) -> &mut Map<String, Value> {
        if !self.metadata.contains_key(name) {
            self.metadata.insert(name.to_owned(), Map::new());
        }
        self.metadata.entry(name.to_owned()).or_default()
    }

    /// Dynamic metadata: one field of a namespace.
    pub fn set(&mut self, namespace: &str, field: &str, value: impl Into<Value>) {
        self.namespace_mut(namespace).insert(field.to_owned(), value.into());
    }

    /// Adds what `other` says; where both say something, `other` wins.
    pub fn merge(&mut self, other: Self) {
        for (namespace, fields) in other.metadata {
            self.metadata.entry(namespace).or_default().extend(fields);
        }
        self.state.extend(other.state);
    }

    /// The value at `path` in a namespace.
    #[must_use]
    pub fn find<S: AsRef<str>>(&self, namespace: &str, path: &[S]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let mut value = self.namespace(namespace)?.get(first.as_ref())?;
        for step in rest {
            value = value.as_object()?.get(step.as_ref())?;
        }
        Some(value)
    }

    /// Filter state: the object of this name.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<&Value> {
        self.state.get(name)
    }

    /// Filter state: puts an object in the place of any other of this name.
    pub fn set_state(&mut self, name: &str, value: impl Into<Value>) {
        self.state.insert(name.to_owned(), value.into());
    }
}
