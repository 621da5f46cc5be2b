//! The embedded store: one file, one writer thread.
//!
//! Writers that come at the same time share one transaction and so one
//! `fsync`; each is acknowledged after it. Reads see the last committed state
//! and never wait for writers.

mod table;
mod writer;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use redb::Database;
use tokio::sync::{mpsc, oneshot};

use crate::history::History;
use crate::{
    Entry, Expect, Listing, OpenError, Put, Revision, Store, StoreError, Watch, WatchError, Written,
};
use table::Snapshot;
use writer::{Command, Deletion, Writer};

/// How many writes may wait for the writer before others wait to be let in.
const QUEUE: usize = 1024;

/// A store in one file, for one process.
pub struct EmbeddedStore {
    database: Arc<Database>,
    history: Arc<History>,
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in `path`, or makes it; missing folders are made too.
    ///
    /// # Errors
    /// The file is in use, damaged, of another version or out of reach.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let database = Arc::new(table::open(path)?);
        let revision = table::initialize(&database, path)?;
        let history = Arc::new(History::new(revision));
        let (commands, queue) = mpsc::channel(QUEUE);
        let io = |error: std::io::Error| OpenError::Io {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let writer = Writer::new(Arc::clone(&database), Arc::clone(&history), queue).map_err(io)?;
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(io)?;
        Ok(Self { database, history, commands: Some(commands), writer: Some(writer) })
    }

    async fn send<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or(StoreError::Closed)?;
        commands.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.database);
        let task = tokio::task::spawn_blocking(move || read(Snapshot::begin(&database)?));
        task.await.map_err(StoreError::engine)?
    }
}

impl Store for EmbeddedStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        let key = key.to_owned();
        Box::pin(self.read(move |snapshot| snapshot.get(&key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Listing, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(self.read(move |snapshot| snapshot.list(&prefix)))
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(self.send(move |reply| Command::Put(put, reply)))
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        expect: Expect,
    ) -> BoxFuture<'a, Result<Option<Revision>, StoreError>> {
        let deletion = Deletion { key: key.to_owned(), expect };
        Box::pin(self.send(move |reply| Command::Delete(deletion, reply)))
    }

    fn watch(&self, prefix: &str, revision: Revision) -> Result<Watch, WatchError> {
        self.history.watch(prefix, revision)
    }
}

impl Drop for EmbeddedStore {
    /// Waits until what was accepted is written, so that the file is free afterwards.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[cfg(test)]
mod tests;
