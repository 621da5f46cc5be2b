//! What can go wrong with a store.

use std::path::PathBuf;

use crate::Revision;

/// A read or write that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key isn't as the write demanded.
    #[error("value changed before overwritten")]
    Conflict,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// No member of etcd answers, or none knows whether the write was kept.
    #[error("has no healthy etcd endpoint available: {0}")]
    Unavailable(String),
    /// The resources come from a file.
    #[error("not found: the resources are declared in {0}, change that file instead")]
    ReadOnly(PathBuf),
    /// The engine failed; nothing of the write is kept.
    #[error("the store failed: {0}")]
    Engine(String),
}

impl StoreError {
    pub(crate) fn engine(error: impl std::fmt::Display) -> Self {
        Self::Engine(error.to_string())
    }
}

/// A watch that can't begin or can't go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The changes from this far back are no longer remembered.
    #[error("changes are remembered only after revision {0}")]
    Compacted(Revision),
    /// The watcher was slower than the writers.
    #[error("the watcher missed changes")]
    Lagged,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// A store's file that can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{0} is in use by another process: stop that one, or give this one its own data folder"
    )]
    Locked(PathBuf),
    /// It is no store, or damaged.
    #[error(
        "{path} is no store or damaged ({reason}): restore it from a copy, or move it away to start empty"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the engine found.
        reason: String,
    },
    /// It was written by another version of Weft.
    #[error(
        "{path} was written by another version of Weft (layout {found}, this one knows {known})"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The layout's number in the file.
        found: u64,
        /// The layout's number of this version.
        known: u64,
    },
    /// etcd can't be used.
    #[error("etcd: {0}")]
    Etcd(String),
    /// The system refused.
    #[error("can't open {path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}
