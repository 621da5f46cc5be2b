//! What is known of all objects of a kind, as a watch tells it.

use std::collections::HashMap;
use std::hash::Hash;

use kube::runtime::watcher::Event;

/// Facts by key. A list that a watch starts anew with replaces what was known as a whole, and only
/// once it is complete: nothing is missing meanwhile.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    known: HashMap<K, V>,
    listing: HashMap<K, V>,
    complete: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { known: HashMap::new(), listing: HashMap::new(), complete: false }
    }
}

impl<K: Eq + Hash, V: PartialEq> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.known.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.known.iter()
    }

    /// Whether the first list was complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes an event; whether something is known differently now. `facts` reads an object; those
    /// that it makes nothing of count as deleted.
    pub(crate) fn take<T>(
        &mut self,
        event: Event<T>,
        key: impl Fn(&T) -> K,
        facts: impl Fn(&T) -> Option<V>,
    ) -> bool {
        match event {
            Event::Apply(object) => match facts(&object) {
                Some(new) => {
                    let key = key(&object);
                    let same = self.known.get(&key) == Some(&new);
                    self.known.insert(key, new);
                    !same
                }
                None => self.known.remove(&key(&object)).is_some(),
            },
            Event::Delete(object) => self.known.remove(&key(&object)).is_some(),
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                if let Some(new) = facts(&object) {
                    self.listing.insert(key(&object), new);
                }
                false
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut self.listing);
                let changed = !self.complete || self.known != listing;
                self.known = listing;
                self.complete = true;
                changed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(table: &mut Table<char, u8>, event: Event<(char, u8)>) -> bool {
        table.take(event, |object| object.0, |object| (object.1 > 0).then_some(object.1))
    }

    #[test]
    fn a_new_list_replaces_everything_once_it_is_complete() {
        let mut table = Table::default();
        assert!(!take(&mut table, Event::Init));
        take(&mut table, Event::InitApply(('a', 1)));
        assert_eq!((table.get(&'a'), table.is_complete()), (None, false));
        assert!(take(&mut table, Event::InitDone));
        assert_eq!(table.get(&'a'), Some(&1));
        assert!(take(&mut table, Event::Apply(('b', 1))));
        assert!(!take(&mut table, Event::Apply(('b', 1))));
        take(&mut table, Event::Init);
        take(&mut table, Event::InitApply(('b', 1)));
        assert_eq!(table.get(&'a'), Some(&1), "until the list is complete");
        assert!(take(&mut table, Event::InitDone));
        assert_eq!(table.get(&'a'), None);
        assert!(take(&mut table, Event::Apply(('b', 0))), "no facts, no entry");
        assert_eq!(table.get(&'b'), None);
    }
}
