//! Where resources are kept: one trait; an embedded store, etcd, a file.
//!
//! Keys are those of APISIX's etcd (`/apisix/routes/1`), values are the JSON
//! of the resource. Every change has a revision that only grows; writes may
//! be bound to the revision that their author saw, and watchers follow from a
//! revision on. A watcher that is too slow is told so and reads anew.

mod declared;
mod embedded;
mod error;
mod etcd;
mod file;
mod follow;
mod history;

#[cfg(test)]
mod conformance;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use declared::{Declared, DeclaredError, Format, Imported};
pub use embedded::EmbeddedStore;
pub use error::{OpenError, StoreError, WatchError};
pub use etcd::{EtcdConfig, EtcdStore, EtcdTls, EtcdUser};
pub use file::FileStore;
pub use follow::Follower;

/// A point in the store's history; 0 is before the first change.
pub type Revision = u64;

/// The key whose writes make new revisions for ids (APISIX's).
const ID_GENERATOR: &str = "/apisix/gen_id";

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key: `/apisix/routes/1`.
    pub key: String,
    /// The value: JSON.
    pub value: Bytes,
    /// The revision at which the key was created.
    pub created: Revision,
    /// The revision of the last change.
    pub modified: Revision,
}

/// All entries under a prefix at one revision, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The revision at which this was the truth.
    pub revision: Revision,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// What a write demands of the key before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// That the key doesn't exist.
    Absent,
    /// That its last change was at this revision.
    Unchanged(Revision),
}

/// A value to be written.
#[derive(Debug, Clone)]
pub struct Put {
    /// The whole key.
    pub key: String,
    /// The value: JSON.
    pub value: Bytes,
    /// What is demanded of the key before.
    pub expect: Expect,
    /// After which time the key is deleted again.
    pub ttl: Option<Duration>,
}

impl Put {
    /// A write without demands that stays.
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let (key, value) = (key.into(), value.into());
        Self { key, value, expect: Expect::Anything, ttl: None }
    }
}

/// An acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its revision.
    pub revision: Revision,
    /// The revision at which the key was created, equal to `revision` if now.
    pub created: Revision,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The whole key.
    pub key: String,
    /// The new entry; `None` means deleted.
    pub entry: Option<Entry>,
    /// The revision of the change.
    pub revision: Revision,
}

/// A key-value store with history.
///
/// A write is durable once it is acknowledged, and every later read sees it.
pub trait Store: Send + Sync {
    /// Reads one key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// Reads all keys that start with `prefix`.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, StoreError>>;

    /// Writes one key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the demand isn't met.
    fn put(&self, put: Put) -> BoxFuture<'_, Result<Written, StoreError>>;

    /// Deletes one key; `None` when it didn't exist.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the demand isn't met.
    fn delete<'a>(
        &'a self,
        key: &'a str,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Option<Revision>, StoreError>>;

    /// Follows the changes after `revision` of all keys that start with `prefix`.
    ///
    /// # Errors
    /// [`WatchError::Compacted`] when that far back isn't remembered.
    fn watch(&self, prefix: &str, revision: Revision) -> Result<Watch, WatchError>;

    /// An id that no one else gets: a new revision, padded to 20 digits.
    fn new_id(&self) -> BoxFuture<'_, Result<String, StoreError>> {
        Box::pin(async {
            let written = self.put(Put::new(ID_GENERATOR, "1")).await?;
            Ok(format!("{:020}", written.revision))
        })
    }
}

/// The changes under a prefix, in the order of their revisions.
pub struct Watch {
    stream: BoxStream<'static, Result<Arc<Event>, WatchError>>,
}

impl Watch {
    pub(crate) fn new(stream: BoxStream<'static, Result<Arc<Event>, WatchError>>) -> Self {
        Self { stream }
    }

    /// The next change. May be cancelled without losing one.
    ///
    /// # Errors
    /// After an error the watch is over: list, then watch from there.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        self.stream.next().await.unwrap_or(Err(WatchError::Closed))
    }
}
