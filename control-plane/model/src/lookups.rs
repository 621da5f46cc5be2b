//! What registries have in common: answers that hold until something changes, and arguments.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::Labels;
use crate::endpoint::{DiscoverError, Endpoint, Endpoints};
use crate::upstream::Discovery;

/// What was asked of a registry, with the answers as long as they hold.
#[derive(Debug)]
pub struct Lookups<K>(HashMap<K, Endpoints>);

impl<K> Default for Lookups<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Lookups<K> {
    /// The known answer, or the one that is found now.
    pub fn answer(&mut self, lookup: K, find: impl FnOnce(&K) -> Vec<Endpoint>) -> Endpoints {
        if let Some(known) = self.0.get(&lookup) {
            return Arc::clone(known);
        }
        let found: Endpoints = find(&lookup).into();
        self.0.insert(lookup, Arc::clone(&found));
        found
    }

    /// Answers anew what was asked for, keeping the pointers of equal answers; whether one differs.
    /// An answer that nobody holds is forgotten, and found anew if it is wanted again.
    pub fn refresh(&mut self, find: impl Fn(&K) -> Vec<Endpoint>) -> bool {
        let mut changed = false;
        self.0.retain(|_, known| Arc::strong_count(known) > 1);
        for (lookup, known) in &mut self.0 {
            let found = find(lookup);
            if known[..] != found[..] {
                changed = true;
                *known = found.into();
            }
        }
        changed
    }
}

impl Discovery {
    /// The labels that workloads must have: `discovery_args: {"labels": {…}}`. Who reads them is named
    /// where there are other arguments.
    ///
    /// # Errors
    /// [`DiscoverError::BadArgument`]: another argument, or labels that are no object of texts.
    pub fn wanted_labels(&self, reader: &str) -> Result<Labels, DiscoverError> {
        let bad = |field: &str, reason: String| DiscoverError::BadArgument {
            field: field.to_owned(),
            reason,
        };
        let no_labels = || bad("labels", "is no object of texts".to_owned());
        if let Some(unknown) = self.args.keys().find(|name| *name != "labels") {
            return Err(bad(unknown, format!("{reader} knows the argument labels")));
        }
        let Some(labels) = self.args.get("labels") else { return Ok(Labels::new()) };
        let labels = labels.as_object().ok_or_else(no_labels)?;
        let pair = |(key, value): (&String, &serde_json::Value)| {
            Ok((key.clone(), value.as_str().ok_or_else(no_labels)?.to_owned()))
        };
        labels.iter().map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        let address = [10, 0, 0, 1].into();
        Endpoint { address, port, weight: 1, identity: None, locality: None }
    }

    #[test]
    fn equal_answers_stay_the_same_and_unheld_ones_are_forgotten() {
        let mut lookups = Lookups::default();
        let held = lookups.answer("held", |_| vec![endpoint(1)]);
        drop(lookups.answer("dropped", |_| vec![endpoint(2)]));
        assert!(!lookups.refresh(|_| vec![endpoint(1)]));
        assert!(Arc::ptr_eq(&held, &lookups.answer("held", |_| Vec::new())));
        assert!(lookups.answer("dropped", |_| Vec::new()).is_empty(), "found anew");
        assert!(lookups.refresh(|_| vec![endpoint(3)]));
        assert_eq!(lookups.answer("held", |_| Vec::new())[0].port, 3);
    }
}
