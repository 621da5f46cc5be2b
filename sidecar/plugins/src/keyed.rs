//! What a limit remembers for each key, and which key a request has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;
use weft_apisix::Variables;

use crate::exchange::Exchange;
use crate::template::Template;

const SHARDS: usize = 16;
/// Above this number of entries, a shard forgets those that are idle.
const FULL: usize = 4096;

/// Entries by key, shared by the workers. Bounded only by what is not idle.
#[derive(Debug)]
pub(crate) struct Table<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Shard<T> {
    entries: HashMap<String, T>,
    /// The number of entries at which the next cleaning is due.
    clean_at: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        let shard = |_| Mutex::new(Shard { entries: HashMap::new(), clean_at: FULL });
        Self { shards: std::array::from_fn(shard), hasher: RandomState::new() }
    }
}

impl<T> Table<T> {
    /// Looks at the entry of a key, which is made if it is not there; `idle` says which entries
    /// may be forgotten when there are many.
    pub(crate) fn with<R>(
        &self,
        key: &str,
        new: impl FnOnce() -> T,
        idle: impl Fn(&T) -> bool,
        look: impl FnOnce(&mut T) -> R,
    ) -> R {
        let mut shard = self.shard(key).lock();
        if shard.entries.len() >= shard.clean_at && !shard.entries.contains_key(key) {
            shard.entries.retain(|_, entry| !idle(entry));
            shard.clean_at = FULL.max(shard.entries.len() * 2);
        }
        look(shard.entries.entry(key.to_owned()).or_insert_with(new))
    }

    /// Looks at the entry of a key if it is there; it is forgotten unless `look` says to keep it.
    pub(crate) fn keep_if(&self, key: &str, look: impl FnOnce(&mut T) -> bool) {
        let mut shard = self.shard(key).lock();
        if let Some(entry) = shard.entries.get_mut(key)
            && !look(entry)
        {
            shard.entries.remove(key);
        }
    }

    /// Looks at all entries, in no order.
    pub(crate) fn each(&self, mut look: impl FnMut(&str, &T)) {
        for shard in &self.shards {
            for (key, entry) in &shard.lock().entries {
                look(key, entry);
            }
        }
    }

    fn shard(&self, key: &str) -> &Mutex<Shard<T>> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

/// Which requests count together.
#[derive(Debug)]
pub(crate) enum KeySource {
    Variable(String),
    Combination(Template),
    Constant(String),
}

impl KeySource {
    /// `key` and `key_type`.
    pub(crate) fn new(key: &str, key_type: &str) -> Self {
        match key_type {
            "var_combination" => Self::Combination(Template::parse(key)),
            "constant" => Self::Constant(key.to_owned()),
            _ => Self::Variable(key.to_owned()),
        }
    }

    /// The key of a request; the client's address where there is none.
    pub(crate) fn of(&self, exchange: &Exchange<'_>) -> String {
        let own = match self {
            Self::Constant(key) => Some(key.clone()),
            Self::Variable(name) => exchange.variable(name),
            Self::Combination(template) => {
                let (text, known) = template.render_counted(&exchange.variables());
                (known > 0).then_some(text)
            }
        };
        own.unwrap_or_else(|| exchange.cx.remote.ip().to_string())
    }
}

/// A whole number, written down or in a variable.
#[derive(Debug)]
pub(crate) enum Amount {
    Fixed(u64),
    Dynamic(Template),
}

impl Amount {
    /// A number, or a text with variables.
    pub(crate) fn read(json: &serde_json::Value) -> Option<Self> {
        json.as_u64()
            .map(Self::Fixed)
            .or_else(|| Some(Self::Dynamic(Template::parse(json.as_str()?))))
    }

    /// The number for a request; `None` if the variable holds none that is at least `least`.
    pub(crate) fn of(&self, variables: &dyn Variables, least: u64) -> Option<u64> {
        match self {
            Self::Fixed(number) => Some(*number),
            Self::Dynamic(template) => {
                template.render(variables).trim().parse().ok().filter(|number| *number >= least)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_entries_make_room() {
        let table = Table::default();
        for number in 0..SHARDS * FULL * 3 {
            table.with(&number.to_string(), || number, |_| true, |_| ());
        }
        let held: usize = table.shards.iter().map(|shard| shard.lock().entries.len()).sum();
        assert!(held <= SHARDS * FULL, "{held}");
        table.keep_if("x", |_| false);
        assert_eq!(table.with("x", || 7, |_| true, |entry| *entry), 7);
        table.keep_if("x", |_| false);
        assert_eq!(table.with("x", || 8, |_| true, |entry| *entry), 8);
    }
}
