//! A whole configuration in one file, as APISIX's standalone mode reads it:
//! `apisix.yaml` that ends in `#END`, or `apisix.json`.

mod read;
mod write;

use std::collections::{BTreeMap, HashMap};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use weft_control_model::{ResourceKey, ResourceKind};

use crate::{Entry, Expect, Listing, Put, Store, StoreError};

/// How many writes of an import wait at once.
const TOGETHER: usize = 256;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML that ends in a line `#END`, without which it counts as half written.
    Yaml,
    /// JSON.
    Json,
}

/// The resources that a file declares.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// The values as they are stored, by key.
    resources: BTreeMap<ResourceKey, Value>,
    /// Items that are no valid resources, each with its place in the file and the field.
    problems: Vec<String>,
    /// The keys of these, as far as they have one.
    doubtful: Vec<ResourceKey>,
}

/// A file that declares nothing, with the place in it and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeclaredError(pub(crate) String);

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// Resources that were new or differed.
    pub written: usize,
    /// Resources that were deleted because they are not declared.
    pub deleted: usize,
    /// Resources that were there already as they are declared.
    pub unchanged: usize,
}

impl Format {
    /// By the ending of a file's name; YAML unless it is `json`.
    pub fn of(path: &std::path::Path) -> Self {
        match path.extension() {
            Some(extension) if extension == "json" => Self::Json,
            _ => Self::Yaml,
        }
    }
}

impl Declared {
    /// Reads a file's text. `${{NAME}}` and `${{NAME:=default}}` in it stand
    /// for what `variable` tells.
    ///
    /// # Errors
    /// It is incomplete or can't be read at all. Single items that are wrong
    /// are left out: see [`Declared::problems`].
    pub fn parse(
        text: &str,
        format: Format,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, DeclaredError> {
        read::parse(text, format, variable).map_err(DeclaredError)
    }

    /// Everything in the store that can be declared.
    pub fn of_listing(listing: &Listing) -> Self {
        let mut declared = Self::default();
        for Entry { key, value, .. } in &listing.entries {
            let Some(parsed) = ResourceKey::parse(key) else { continue };
            match serde_json::from_slice(value) {
                Ok(value) => drop(declared.resources.insert(parsed, value)),
                Err(error) => declared.problems.push(format!("{key}: {error}")),
            }
        }
        declared
    }

    /// The file's text.
    ///
    /// # Errors
    /// A value that the format can't hold.
    pub fn render(&self, format: Format) -> Result<String, DeclaredError> {
        write::render(&self.resources, format).map_err(DeclaredError)
    }

    /// Items that are left out, each with its place and the reason.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// Brings a store to what is declared; with `replace` also by deleting
    /// what isn't. What is referred to is written before what refers to it,
    /// and deleted after.
    ///
    /// # Errors
    /// The store fails; a part may be done, and doing it again does the rest.
    pub async fn import(&self, store: &dyn Store, replace: bool) -> Result<Imported, StoreError> {
        let stored: HashMap<_, _> = self.stored(store).await?;
        let mut imported = Imported::default();
        for kind in ResourceKind::ALL.into_iter().rev() {
            let declared = self.resources.iter().filter(|(key, _)| key.kind == kind);
            let puts = declared.filter(|(key, value)| stored.get(*key) != Some(*value));
            let puts = puts.map(|(key, value)| Put::new(key.to_string(), value.to_string()));
            imported.written += written(store, puts.collect()).await?;
        }
        imported.unchanged = self.resources.len() - imported.written;
        if replace {
            let mut gone: Vec<_> = stored.keys().filter(|key| self.is_gone(key)).collect();
            gone.sort();
            for key in gone {
                store.delete(&key.to_string(), Expect::Anything).await?;
                imported.deleted += 1;
            }
        }
        Ok(imported)
    }

    async fn stored(&self, store: &dyn Store) -> Result<HashMap<ResourceKey, Value>, StoreError> {
        let listing = store.list("/").await?;
        let known = listing.entries.iter().filter_map(|entry| {
            let value = serde_json::from_slice(&entry.value).unwrap_or_default();
            Some((ResourceKey::parse(&entry.key)?, value))
        });
        Ok(known.collect())
    }

    /// What was right once and is wrong now stays as it was.
    fn is_gone(&self, key: &ResourceKey) -> bool {
        !self.resources.contains_key(key) && !self.doubtful.contains(key)
    }
}

async fn written(store: &dyn Store, puts: Vec<Put>) -> Result<usize, StoreError> {
    let count = puts.len();
    let writes = stream::iter(puts).map(|put| store.put(put));
    writes.buffer_unordered(TOGETHER).try_for_each(|_| std::future::ready(Ok(()))).await?;
    Ok(count)
}

#[cfg(test)]
mod tests;
