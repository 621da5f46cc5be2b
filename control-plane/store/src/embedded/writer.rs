//! The one thread that writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableTable, Table};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::table::{ENTRIES, NUMBERS, REVISION, Record, Snapshot};
use crate::history::History;
use crate::{Event, Expect, Put, Revision, StoreError, Written};

/// The most writes that share one transaction.
const BATCH: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub(super) enum Command {
    Put(Put, Reply<Written>),
    Delete(Deletion, Reply<Option<Revision>>),
}

/// A key to be deleted.
pub(super) struct Deletion {
    pub(super) key: String,
    pub(super) expect: Expect,
}

/// The state of the writer's thread.
pub(super) struct Writer {
    database: Arc<Database>,
    history: Arc<History>,
    queue: mpsc::Receiver<Command>,
    runtime: Runtime,
    /// Keys that end by themselves, by when.
    expiries: BTreeSet<(u64, String)>,
}

/// An applied command, to be answered after the commit.
enum Applied {
    Put(Reply<Written>, Result<Written, StoreError>),
    Delete(Reply<Option<Revision>>, Result<Option<Revision>, StoreError>),
}

/// The tables of one transaction and what it changed so far.
struct Transaction<'a> {
    entries: Table<'a, &'static str, &'static [u8]>,
    revision: Revision,
    events: Vec<Event>,
    expiries: Vec<(u64, String)>,
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        history: Arc<History>,
        queue: mpsc::Receiver<Command>,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let expiries = Snapshot::begin(&database).and_then(|snapshot| snapshot.expiries());
        let expiries = expiries.map_err(std::io::Error::other)?.into_iter().collect();
        Ok(Self { database, history, queue, runtime, expiries })
    }

    /// Writes until the store is dropped.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            let due = self.due();
            match self.write(batch, &due) {
                Ok(applied) => applied.into_iter().for_each(Applied::answer),
                Err(error) => tracing::error!(%error, "the store could not write"),
            }
        }
    }

    /// What waits, after at least one command or expiry; `None` at the end.
    fn next_batch(&mut self) -> Option<Vec<Command>> {
        let mut batch = Vec::new();
        let next = self.expiries.first().map(|(at, _)| *at);
        let wait = next.map(|at| Duration::from_millis(at.saturating_sub(now())));
        let (runtime, queue) = (&self.runtime, &mut self.queue);
        let received = runtime.block_on(async {
            let receive = queue.recv_many(&mut batch, BATCH);
            match wait {
                Some(wait) => tokio::time::timeout(wait, receive).await.ok(),
                None => Some(receive.await),
            }
        });
        (received != Some(0)).then_some(batch)
    }

    /// Takes out the keys whose time has come.
    fn due(&mut self) -> Vec<(u64, String)> {
        let now = now();
        let mut due = Vec::new();
        while self.expiries.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.expiries.pop_first());
        }
        due
    }

    /// Applies all in one transaction. When that fails, the callers are
    /// answered with the engine's error and nothing has changed.
    fn write(
        &mut self,
        mut batch: Vec<Command>,
        due: &[(u64, String)],
    ) -> Result<Vec<Applied>, StoreError> {
        let mut applied = Vec::with_capacity(batch.len());
        match self.commit(&mut batch, due, &mut applied) {
            Ok(()) => Ok(applied),
            Err(error) => {
                let reason = error.to_string();
                applied.into_iter().for_each(|command| command.fail(&reason));
                batch.into_iter().for_each(|command| command.fail(&reason));
                self.expiries.extend(due.iter().cloned());
                Err(error)
            }
        }
    }

    fn commit(
        &mut self,
        batch: &mut Vec<Command>,
        due: &[(u64, String)],
        applied: &mut Vec<Applied>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(StoreError::engine)?;
        let (events, expiries) = {
            let mut numbers = transaction.open_table(NUMBERS).map_err(StoreError::engine)?;
            let before = numbers.get(REVISION).map_err(StoreError::engine)?;
            let revision = before.map_or(0, |number| number.value());
            let entries = transaction.open_table(ENTRIES).map_err(StoreError::engine)?;
            let mut open = Transaction { entries, revision, events: vec![], expiries: vec![] };
            for (at, key) in due {
                open.expire(*at, key)?;
            }
            applied.extend(batch.drain(..).map(|command| open.apply(command)));
            numbers.insert(REVISION, open.revision).map_err(StoreError::engine)?;
            (open.events, open.expiries)
        };
        if events.is_empty() {
            return transaction.abort().map_err(StoreError::engine);
        }
        transaction.commit().map_err(StoreError::engine)?;
        self.expiries.extend(expiries);
        self.history.publish(events);
        Ok(())
    }
}

impl Command {
    fn fail(self, reason: &str) {
        let error = StoreError::engine(reason);
        match self {
            Self::Put(_, reply) => drop(reply.send(Err(error))),
            Self::Delete(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Transaction<'_> {
    fn apply(&mut self, command: Command) -> Applied {
        match command {
            Command::Put(put, reply) => Applied::Put(reply, self.put(put)),
            Command::Delete(deletion, reply) => {
                let result = self.delete(&deletion.key, deletion.expect);
                Applied::Delete(reply, result)
            }
        }
    }

    fn put(&mut self, put: Put) -> Result<Written, StoreError> {
        let before = self.read(&put.key)?;
        check(put.expect, before.as_ref())?;
        let modified = self.revision + 1;
        let created = before.map_or(modified, |record| record.created);
        let expires = put.ttl.map_or(0, |ttl| now().saturating_add(millis(ttl)));
        let record = Record { created, modified, expires, value: put.value };
        let bytes = record.encode();
        self.entries.insert(put.key.as_str(), bytes.as_slice()).map_err(StoreError::engine)?;
        if expires != 0 {
            self.expiries.push((expires, put.key.clone()));
        }
        let entry = Some(record.into_entry(&put.key));
        self.changed(put.key, entry);
        Ok(Written { revision: modified, created })
    }

    fn delete(&mut self, key: &str, expect: Expect) -> Result<Option<Revision>, StoreError> {
        let before = self.read(key)?;
        if before.is_none() && expect == Expect::Anything {
            return Ok(None);
        }
        check(expect, before.as_ref())?;
        self.entries.remove(key).map_err(StoreError::engine)?;
        self.changed(key.to_owned(), None);
        Ok(Some(self.revision))
    }

    /// Deletes `key` unless it was written anew since.
    fn expire(&mut self, at: u64, key: &str) -> Result<(), StoreError> {
        if self.read(key)?.is_some_and(|record| record.expires == at) {
            self.delete(key, Expect::Anything)?;
        }
        Ok(())
    }

    fn read(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let bytes = self.entries.get(key).map_err(StoreError::engine)?;
        bytes.map(|bytes| Record::decode(bytes.value())).transpose()
    }

    fn changed(&mut self, key: String, entry: Option<crate::Entry>) {
        self.revision += 1;
        self.events.push(Event { key, entry, revision: self.revision });
    }
}

impl Applied {
    /// The caller may have gone; the write stands all the same.
    fn answer(self) {
        match self {
            Self::Put(reply, result) => drop(reply.send(result)),
            Self::Delete(reply, result) => drop(reply.send(result)),
        }
    }

    fn fail(self, reason: &str) {
        let error = StoreError::engine(reason);
        match self {
            Self::Put(reply, _) => drop(reply.send(Err(error))),
            Self::Delete(reply, _) => drop(reply.send(Err(error))),
        }
    }
}

fn check(expect: Expect, before: Option<&Record>) -> Result<(), StoreError> {
    let met = match expect {
        Expect::Anything => true,
        Expect::Absent => before.is_none(),
        Expect::Unchanged(revision) => before.is_some_and(|record| record.modified == revision),
    };
    if met { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Unix milliseconds.
fn now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
