//! What the owner of a running client holds.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use weft_xds_ads::{Rejection, ResourceType};

/// Controls a running client. The client ends when the last handle is dropped.
#[derive(Clone)]
pub struct ClientHandle {
    pub(crate) shared: Arc<Shared>,
    owner: Arc<Owner>,
    status: watch::Receiver<ClientStatus>,
}

/// What handle and driver share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stop: CancellationToken,
    pub(crate) refresh: Notify,
    pub(crate) blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(crate) blobs_changed: Notify,
}

struct Owner {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ClientHandle {
    pub(crate) fn new(
        shared: Arc<Shared>,
        task: JoinHandle<()>,
        status: watch::Receiver<ClientStatus>,
    ) -> Self {
        let owner = Owner { stop: shared.stop.clone(), task: Mutex::new(Some(task)) };
        Self { shared, owner: Arc::new(owner), status }
    }

    /// Has the handler asked again what it wants.
    pub fn refresh(&self) {
        self.shared.refresh.notify_one();
    }

    /// Keeps `content` in the cache under `name`, beside the resources.
    pub fn keep(&self, name: &str, content: Vec<u8>) {
        self.shared.blobs.lock().insert(name.to_owned(), content);
        self.shared.blobs_changed.notify_one();
    }

    /// What is kept under `name`, also from an earlier run once the cache was read.
    #[must_use]
    pub fn kept(&self, name: &str) -> Option<Vec<u8>> {
        self.shared.blobs.lock().get(name).cloned()
    }

    /// How the client is doing, now and whenever that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ClientStatus> {
        self.status.clone()
    }

    /// Ends the client, after the cache was written.
    pub async fn shutdown(self) {
        self.owner.stop.cancel();
        let task = self.owner.task.lock().take();
        if let Some(task) = task {
            // It can only fail by a panic of the handler, which has been reported by then.
            let _ = task.await;
        }
    }
}

/// How a client is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientStatus {
    /// Whether a stream is open.
    pub connected: bool,
    /// Streams that were opened.
    pub connections: u64,
    /// Why there is no stream, or why the last one ended.
    pub last_error: Option<String>,
    /// Why the cache was not used, or not written.
    pub cache_error: Option<String>,
    /// Whether the cache has been read, or there is none: what could be served without the
    /// control plane is served.
    pub restored: bool,
    /// By type.
    pub types: BTreeMap<ResourceType, TypeStatus>,
}

/// How a client is doing with one type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TypeStatus {
    /// Version of the last push that was accepted as a whole.
    pub version: String,
    /// Pushes that were accepted as a whole.
    pub accepted: u64,
    /// Pushes of which something was rejected.
    pub rejected: u64,
    /// When the last push came.
    pub last_update: Option<SystemTime>,
    /// What the last push was rejected for; empty when it was accepted.
    pub rejections: Vec<Rejection>,
}
