//! A declarative file as the store, read-only and followed.
//!
//! What the file declares is brought into an embedded store, which gives it
//! revisions, watches and a memory: a file that is broken, gone or half
//! written changes nothing, also when the control plane starts with it.
//! What is no resource (workloads, addresses) is kept in the same store.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use weft_control_model::ResourceKey;

use crate::declared::{Declared, Format};
use crate::{
    EmbeddedStore, Entry, Expect, Listing, OpenError, Put, Revision, Store, StoreError, Watch,
    WatchError, Written,
};

/// How often the file is looked at (APISIX's second).
const LOOK: Duration = Duration::from_secs(1);

/// A store whose resources are what a file declares.
pub struct FileStore {
    memory: Arc<EmbeddedStore>,
    path: PathBuf,
    following: JoinHandle<()>,
}

/// What tells one state of a file from another: times, number and size.
type Stamp = (SystemTime, u64, u64);

impl FileStore {
    /// Reads the file and follows it; `memory` remembers the last good state.
    ///
    /// # Errors
    /// The file can't be read and nothing is remembered, or `memory` can't be opened.
    pub async fn open(path: &Path, memory: &Path) -> Result<Self, OpenError> {
        let memory = Arc::new(EmbeddedStore::open(memory)?);
        let mut source = Source { path: path.to_owned(), seen: None };
        if let Err(reason) = source.look(&memory).await {
            let listing = memory.list("/").await;
            let known = listing.is_ok_and(|listing| !Declared::of_listing(&listing).is_empty());
            if !known {
                return Err(OpenError::Io { path: path.to_owned(), reason });
            }
            tracing::error!(%reason, "the last good configuration stays in force");
        }
        let following = tokio::spawn(source.follow(Arc::downgrade(&memory)));
        Ok(Self { memory, path: path.to_owned(), following })
    }

    fn writable(&self, key: &str) -> Result<(), StoreError> {
        match ResourceKey::parse(key) {
            Some(_) => Err(StoreError::ReadOnly(self.path.clone())),
            None => Ok(()),
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Store for FileStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        self.memory.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, StoreError>> {
        self.memory.list(prefix)
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Written, StoreError>> {
        match self.writable(&put.key) {
            Ok(()) => self.memory.put(put),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Option<Revision>, StoreError>> {
        match self.writable(key) {
            Ok(()) => self.memory.delete(key, expect),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn watch(&self, prefix: &str, revision: Revision) -> Result<Watch, WatchError> {
        self.memory.watch(prefix, revision)
    }
}

/// The file and what of it was read last.
struct Source {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl Source {
    /// Follows while the store is there; it alone keeps the memory open.
    async fn follow(mut self, memory: Weak<EmbeddedStore>) {
        let mut ticks = tokio::time::interval(LOOK);
        let mut told = None;
        loop {
            ticks.tick().await;
            let Some(memory) = memory.upgrade() else { return };
            let failed = self.look(&memory).await.err();
            if let Some(reason) = failed.as_ref().filter(|_| told != failed) {
                tracing::error!(%reason, "the last good configuration stays in force");
            }
            told = failed;
        }
    }

    /// Reads the file if it changed.
    ///
    /// # Errors
    /// The file, the line and the reason.
    async fn look(&mut self, memory: &EmbeddedStore) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let metadata = tokio::fs::metadata(&self.path).await.map_err(|error| failed(&error))?;
        let modified = metadata.modified().map_err(|error| failed(&error))?;
        let stamp = Some((modified, metadata.ino(), metadata.len()));
        if self.seen == stamp {
            return Ok(());
        }
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|error| failed(&error))?;
        let variable = |name: &str| std::env::var(name).ok();
        let declared = Declared::parse(&text, Format::of(&self.path), &variable);
        let declared = declared.map_err(|error| failed(&error))?;
        for problem in declared.problems() {
            tracing::error!(file = %self.path.display(), %problem, "left out; what was valid before stays");
        }
        let imported = declared.import(memory, true).await.map_err(|error| failed(&error))?;
        tracing::info!(file = %self.path.display(), ?imported, "read the configuration");
        self.seen = stamp;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
