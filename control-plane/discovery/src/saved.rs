//! What the registry and the address book keep in the store.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weft_control_model::Workload;
use weft_store::{Entry, Expect, Put, Store, StoreError};

use crate::{AddressBook, MeshRegistry};

mod others;

/// Where workloads are kept, by the ids of their nodes.
const WORKLOADS: &str = "/weft/workloads/";
/// Where virtual addresses are kept, by host.
const ADDRESSES: &str = "/weft/virtual_addresses/";
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The part of the store that belongs to discovery.
#[derive(Clone)]
pub struct Saved {
    store: Arc<dyn Store>,
    /// The control plane that saves.
    owner: Arc<str>,
}

/// A workload as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    #[serde(flatten)]
    workload: Workload,
    /// The control plane that its node is connected to.
    #[serde(default)]
    owner: String,
}

impl Record {
    fn read(entry: &Entry) -> Option<Self> {
        let read = serde_json::from_slice(&entry.value);
        read.inspect_err(|error| {
            tracing::warn!(key = %entry.key, %error, "a saved workload can't be read");
        })
        .ok()
    }
}

impl Saved {
    /// The part of this store, as the control plane `owner` sees it; of several on one store each has
    /// a name of its own, also after a restart.
    pub fn new(store: Arc<dyn Store>, owner: &str) -> Self {
        Self { store, owner: owner.into() }
    }

    /// The workloads that were known last.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn workloads(&self) -> Result<Vec<Workload>, StoreError> {
        let listing = self.store.list(WORKLOADS).await?;
        Ok(listing.entries.iter().filter_map(Record::read).map(|one| one.workload).collect())
    }

    /// The addresses that were given.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn addresses(&self) -> Result<AddressBook, StoreError> {
        let mut book = AddressBook::default();
        for entry in self.store.list(ADDRESSES).await?.entries {
            let host = entry.key.trim_start_matches(ADDRESSES).to_owned();
            match address_of(&entry) {
                Some(address) => book.restore(host, address),
                None => tracing::warn!(key = %entry.key, "a saved address can't be read"),
            }
        }
        Ok(book)
    }

    /// Keeps a new address, unless another control plane was faster; the one that holds.
    ///
    /// # Errors
    /// The store can't be written.
    pub async fn settle_address(&self, host: &str, address: IpAddr) -> Result<IpAddr, StoreError> {
        let (key, value) = (format!("{ADDRESSES}{host}"), json!({"address": address}).to_string());
        let put = Put { expect: Expect::Absent, ..Put::new(key.clone(), value) };
        match self.store.put(put).await {
            Ok(_) => Ok(address),
            Err(StoreError::Conflict) => {
                let known = self.store.get(&key).await?.and_then(|entry| address_of(&entry));
                Ok(known.unwrap_or(address))
            }
            Err(error) => Err(error),
        }
    }

    /// Saves what changes in the registry, for ever.
    pub async fn follow(&self, registry: &MeshRegistry) {
        loop {
            let mut unsaved = registry.unsaved().await.into_iter();
            while let Some((id, workload)) = unsaved.next() {
                if let Err(error) = self.save(&id, workload.as_deref()).await {
                    tracing::warn!(workload = %id, %error, "can't save the workload; trying again");
                    registry.still_unsaved(std::iter::once(id).chain(unsaved.map(|(id, _)| id)));
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            }
        }
    }

    async fn save(&self, id: &str, workload: Option<&Workload>) -> Result<(), StoreError> {
        let key = format!("{WORKLOADS}{id}");
        match workload {
            Some(workload) => {
                let owner = self.owner.as_ref().to_owned();
                let value = json!(Record { workload: workload.clone(), owner }).to_string();
                self.store.put(Put::new(key, value)).await.map(drop)
            }
            None => self.store.delete(&key, Expect::Anything).await.map(drop),
        }
    }
}

fn address_of(entry: &Entry) -> Option<IpAddr> {
    let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
    value["address"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use weft_control_model::Role;
    use weft_store::EmbeddedStore;

    use super::*;

    pub(super) fn workload(id: &str) -> Workload {
        Workload {
            id: id.to_owned(),
            namespace: "demo".to_owned(),
            service_account: "a".to_owned(),
            labels: [("app".to_owned(), "a".to_owned())].into(),
            addresses: Vec::new(),
            ports: Vec::new(),
            role: Role::Sidecar,
            connected_since: 1,
            version: String::new(),
        }
    }

    #[tokio::test]
    async fn what_is_known_survives_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = EmbeddedStore::open(&folder.path().join("weft.redb")).expect("a store");
        let store: Arc<dyn Store> = Arc::new(store);
        let saved = Saved::new(Arc::clone(&store), "one");
        let registry = MeshRegistry::new(Duration::ZERO);
        registry.connected(workload("sidecar~1"));
        registry.connected(workload("sidecar~2"));
        registry.disconnected("sidecar~2");
        registry.expire();
        let mut watch = store.watch(WORKLOADS, 0).expect("a watch");
        tokio::select! {
            () = saved.follow(&registry) => {}
            _ = watch.next() => {}
        }
        assert_eq!(saved.workloads().await.expect("read"), [workload("sidecar~1")]);
        let address = "240.240.1.2".parse().expect("an address");
        assert_eq!(saved.settle_address("a.demo", address).await.expect("written"), address);
        let late = "240.240.3.4".parse().expect("an address");
        assert_eq!(saved.settle_address("a.demo", late).await.expect("read"), address);
        let mut book = saved.addresses().await.expect("read");
        assert_eq!(book.assign("a.demo"), Ok((address, false)));
    }
}
