//! What etcd holds, kept up to date by one stream of watches.
//!
//! The stream is taken up again where it ended. When etcd no longer has the
//! revisions in between, everything is read, and those who follow are told to
//! do the same: they may know more than this mirror did, so that what differs
//! for them only they can say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::api::{
    self, EventType, KeyValue, WatchCreateRequest, WatchOrder, WatchRequest, WatchResponse,
};
use super::{Etcd, placeholder};
use crate::history::History;
use crate::{Entry, Event, Listing, Revision};

/// The first pause after a failure; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Everything at one revision, for times when etcd can't be asked.
#[derive(Default)]
pub(super) struct Mirror {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    revision: Revision,
}

/// How a stream of watches ended.
enum End {
    /// What is needed is no longer there, because etcd has compacted it, or is
    /// at an earlier revision than it was: it was restored or replaced.
    Missed,
    /// Anything else, after which it is taken up again.
    Broken(String),
}

impl Mirror {
    /// What is known under `prefix`.
    pub(super) fn list(&self, prefix: &str) -> Listing {
        let state = self.state.lock();
        let found = state.entries.range(prefix.to_owned()..);
        let found = found.take_while(|(key, _)| key.starts_with(prefix));
        let entries = found.map(|(_, entry)| entry.clone()).collect();
        Listing { revision: state.revision, entries }
    }

    /// What is known of one key.
    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.state.lock().entries.get(key).cloned()
    }

    /// Takes over a list of everything.
    pub(super) fn replace(&self, listing: Listing) {
        let entries = listing.entries.into_iter().map(|entry| (entry.key.clone(), entry));
        let revision = listing.revision;
        *self.state.lock() = State { entries: entries.collect(), revision };
    }

    fn apply(&self, events: &[Event]) {
        let mut state = self.state.lock();
        for event in events {
            match &event.entry {
                Some(entry) => drop(state.entries.insert(event.key.clone(), entry.clone())),
                None => drop(state.entries.remove(&event.key)),
            }
            state.revision = state.revision.max(event.revision);
        }
    }
}

/// Keeps mirror and history up to date for ever.
pub(super) async fn follow(etcd: Arc<Etcd>, history: Arc<History>) {
    let start = etcd.mirror.state.lock().revision + 1;
    let mut watches = Watches { next: [start; 2], etcd, history };
    let mut pause = PAUSE;
    loop {
        let before = watches.next;
        match watches.run().await {
            End::Broken(reason) => {
                watches.etcd.cluster.leave_current();
                tracing::warn!(%reason, "the watch of etcd ended; what is known stays in force");
                if watches.next != before {
                    pause = PAUSE;
                }
            }
            End::Missed => match watches.read_all().await {
                Ok(()) => {
                    pause = PAUSE;
                    continue;
                }
                Err(error) => tracing::warn!(%error, "can't read etcd anew"),
            },
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Two watches, one for each folder.
struct Watches {
    etcd: Arc<Etcd>,
    history: Arc<History>,
    /// The first revision that isn't known yet, for each watch.
    next: [Revision; 2],
}

impl Watches {
    async fn run(&mut self) -> End {
        let mut stream = match self.etcd.cluster.watch(self.orders()).await {
            Ok(stream) => stream,
            Err(reason) => return End::Broken(reason),
        };
        loop {
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return End::Broken("etcd closed it".to_owned()),
                Err(status) => return End::Broken(status.message().to_owned()),
            };
            if let Some(end) = self.take(response) {
                return end;
            }
        }
    }

    fn orders(&self) -> Vec<WatchRequest> {
        let folders = self.etcd.layout.folders().into_iter().zip(self.next).zip(1..);
        let order = |((folder, next), watch_id): ((&str, Revision), i64)| WatchCreateRequest {
            key: folder.into(),
            range_end: api::end_of(folder),
            start_revision: api::signed(next),
            progress_notify: true,
            watch_id,
        };
        let orders = folders.map(|watch| Some(WatchOrder::Create(order(watch))));
        orders.map(|order| WatchRequest { order }).collect()
    }

    fn take(&mut self, response: WatchResponse) -> Option<End> {
        let revision = api::revision(response.header.as_ref());
        let index = usize::try_from(response.watch_id).ok().and_then(|id| id.checked_sub(1));
        let next = self.next.get_mut(index.unwrap_or(usize::MAX));
        if response.canceled {
            return Some(match response.compact_revision {
                0 => End::Broken(response.cancel_reason),
                _ => End::Missed,
            });
        }
        let Some(next) = next else {
            return Some(End::Broken(format!("etcd answers for watch {}", response.watch_id)));
        };
        if response.created {
            return (revision + 1 < *next).then_some(End::Missed);
        }
        let seen = response.events.iter().filter_map(|event| event.kv.as_ref());
        match seen.map(|kv| api::number(kv.mod_revision)).max() {
            Some(last) => *next = last + 1,
            // An idle watch is told that nothing happened up to here.
            None => *next = (*next).max(revision + 1),
        }
        let events = response.events.into_iter().filter_map(|event| {
            let deleted = event.kind == EventType::Delete as i32;
            self.etcd.event(event.kv?, deleted)
        });
        let events: Vec<_> = events.collect();
        self.etcd.mirror.apply(&events);
        self.history.publish(events);
        None
    }

    /// Reads everything, has others do the same, and goes on from there.
    async fn read_all(&mut self) -> Result<(), crate::StoreError> {
        let listing = self.etcd.read_all().await?;
        let revision = listing.revision;
        tracing::info!(revision, "read etcd anew");
        self.etcd.mirror.replace(listing);
        self.history.reset(revision);
        self.next = [revision + 1; 2];
        Ok(())
    }
}

impl Etcd {
    /// A change as this crate tells it; `None` for what is no key of it.
    fn event(&self, kv: KeyValue, deleted: bool) -> Option<Event> {
        if deleted {
            let key = self.layout.inside(std::str::from_utf8(&kv.key).ok()?)?;
            return Some(Event { key, entry: None, revision: api::number(kv.mod_revision) });
        }
        self.entry(kv).map(put)
    }

    /// An entry as this crate tells it; `None` for what is no key of it, and
    /// for the placeholders of APISIX's folders.
    pub(super) fn entry(&self, kv: KeyValue) -> Option<Entry> {
        let key = self.layout.inside(std::str::from_utf8(&kv.key).ok()?)?;
        if placeholder(&key) {
            return None;
        }
        let (created, modified) = (api::number(kv.create_revision), api::number(kv.mod_revision));
        let value = self.keyring.open(&key, kv.value);
        Some(Entry { key, value, created, modified })
    }
}

fn put(entry: Entry) -> Event {
    Event { key: entry.key.clone(), revision: entry.modified, entry: Some(entry) }
}
