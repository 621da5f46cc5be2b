//! The recent changes, for watchers that begin a little in the past.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

use crate::{Event, Revision, Watch, WatchError};

/// How many changes are remembered, also how far a watcher may fall behind.
const CAPACITY: usize = 4096;

/// The recent changes and those who follow them.
pub(crate) struct History {
    recent: Mutex<Recent>,
}

struct Recent {
    /// Every change after this revision is in `events`.
    floor: Revision,
    /// The revision of the last change.
    head: Revision,
    events: VecDeque<Arc<Event>>,
    /// `None` tells everyone to read anew.
    sender: Sender<Option<Arc<Event>>>,
}

impl History {
    /// A history that begins after `revision`.
    pub(crate) fn new(revision: Revision) -> Self {
        let (sender, _) = broadcast::channel(CAPACITY);
        let events = VecDeque::new();
        Self { recent: Mutex::new(Recent { floor: revision, head: revision, events, sender }) }
    }

    /// Adds changes in the order of their revisions.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        let mut recent = self.recent.lock();
        for event in events {
            let event = Arc::new(event);
            if recent.events.len() == CAPACITY
                && let Some(oldest) = recent.events.pop_front()
            {
                recent.floor = oldest.revision;
            }
            recent.head = event.revision;
            recent.events.push_back(Arc::clone(&event));
            // Nobody may be listening.
            let _ = recent.sender.send(Some(event));
        }
    }

    /// Begins anew at `revision`: everyone who follows has missed changes.
    pub(crate) fn reset(&self, revision: Revision) {
        let mut recent = self.recent.lock();
        (recent.floor, recent.head) = (revision, revision);
        recent.events.clear();
        let _ = recent.sender.send(None);
    }

    /// The changes after `revision` under `prefix`.
    pub(crate) fn watch(&self, prefix: &str, revision: Revision) -> Result<Watch, WatchError> {
        let (backlog, receiver) = {
            let recent = self.recent.lock();
            if revision < recent.floor {
                return Err(WatchError::Compacted(recent.floor));
            }
            let missed = recent.events.iter().filter(|event| event.revision > revision);
            (missed.cloned().collect::<Vec<_>>(), recent.sender.subscribe())
        };
        let prefix = prefix.to_owned();
        let events = stream::iter(backlog.into_iter().map(Ok)).chain(live(receiver));
        let wanted = events.filter(move |event| {
            // A reader may be ahead of what was published here.
            let wanted =
                |event: &Arc<Event>| event.revision > revision && event.key.starts_with(&prefix);
            std::future::ready(event.as_ref().map_or(true, wanted))
        });
        Ok(Watch::new(wanted.boxed()))
    }
}

/// What is published from now on; ends after an error.
fn live(
    receiver: Receiver<Option<Arc<Event>>>,
) -> impl stream::Stream<Item = Result<Arc<Event>, WatchError>> + Send {
    stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Ok(Some(event)) => Some((Ok(event), Some(receiver))),
            Ok(None) | Err(RecvError::Lagged(_)) => Some((Err(WatchError::Lagged), None)),
            Err(RecvError::Closed) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: Revision) -> Event {
        Event { key: format!("/k/{revision}"), entry: None, revision }
    }

    #[tokio::test]
    async fn a_watcher_that_falls_behind_is_told() {
        let history = History::new(0);
        let mut watch = history.watch("/k/", 0).expect("from the start");
        history.publish((1..=CAPACITY as u64 * 2).map(event).collect());
        assert_eq!(watch.next().await, Err(WatchError::Lagged));
        assert_eq!(watch.next().await, Err(WatchError::Closed));
    }

    #[tokio::test]
    async fn what_is_forgotten_can_not_be_followed() {
        let history = History::new(0);
        history.publish((1..=CAPACITY as u64 + 10).map(event).collect());
        assert_eq!(history.watch("", 9).err(), Some(WatchError::Compacted(10)));
        let mut watch = history.watch("", 10).expect("remembered");
        assert_eq!(watch.next().await.expect("an event").revision, 11);
    }
}
