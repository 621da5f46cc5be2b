//! Policies that people keep in the cluster as custom resources, brought into the store, from where
//! they go the way of those that the Admin API wrote.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use weft_control_model::{
    AuthorizationPolicy, DecodeError, PeerAuthentication, ResourceKey, ResourceKind,
};
use weft_store::{Expect, Put, Store, StoreError};

mod stored;

use stored::Stored;

/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Whose resources they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    /// `weft.dev/v1`
    Weft,
    /// `security.istio.io/v1`, of a mesh of Istio's beside this one, whose own control plane tells
    /// their status.
    Istio,
}

/// Brings policies of the cluster into the store.
#[derive(Clone)]
pub struct PolicySync {
    client: Client,
    store: Arc<dyn Store>,
    weft: bool,
    istio: bool,
}

/// The resources of one kind and group.
struct Following<'a> {
    sync: &'a PolicySync,
    author: Author,
    kind: ResourceKind,
    resource: ApiResource,
    /// What a list has brought so far.
    listing: Vec<DynamicObject>,
}

impl PolicySync {
    /// Follows the resources of `weft.dev/v1`, of Istio's `security.istio.io/v1`, or both.
    pub fn new(client: Client, store: Arc<dyn Store>, weft: bool, istio: bool) -> Self {
        Self { client, store, weft, istio }
    }

    /// Works for as long as it is polled; failures are told in the log and tried again. One control
    /// plane at a time should.
    pub async fn run(&self) {
        let both = |wanted: bool, author| async move {
            if wanted {
                tokio::join!(
                    self.follow(author, ResourceKind::PeerAuthentication),
                    self.follow(author, ResourceKind::AuthorizationPolicy),
                );
            }
        };
        tokio::join!(both(self.weft, Author::Weft), both(self.istio, Author::Istio));
    }

    async fn follow(&self, author: Author, kind: ResourceKind) {
        let resource = ApiResource::from_gvk(&GroupVersionKind {
            group: author.group().to_owned(),
            version: "v1".to_owned(),
            kind: stored::kind_name(kind).to_owned(),
        });
        let mut following = Following { sync: self, author, kind, resource, listing: Vec::new() };
        loop {
            let api = Api::<DynamicObject>::all_with(self.client.clone(), &following.resource);
            let events = watcher(api, watcher::Config::default()).default_backoff();
            pin_mut!(events);
            while let Some(event) = events.next().await {
                let taken = match event {
                    Ok(event) => following.take(event).await,
                    Err(error) => {
                        let kind = &following.resource.kind;
                        tracing::warn!(kind, %error, "the watch failed and begins anew");
                        Ok(())
                    }
                };
                // A list from the start says again what could not be stored.
                if let Err(error) = taken {
                    tracing::error!(%error, "a policy of the cluster can't be stored");
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Author {
    fn group(self) -> &'static str {
        match self {
            Self::Weft => "weft.dev",
            Self::Istio => "security.istio.io",
        }
    }

    /// What the ids of their entries begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Weft => "k8s.",
            Self::Istio => "istio.",
        }
    }
}

impl Following<'_> {
    async fn take(&mut self, event: Event<DynamicObject>) -> Result<(), StoreError> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => self.listing.push(object),
            Event::InitDone => {
                let mut all = std::mem::take(&mut self.listing);
                // Of several policies of one level the oldest holds.
                all.sort_by_key(|object| {
                    let created = object.creation_timestamp().map(|time| time.0);
                    (created, object.namespace(), object.name_any())
                });
                self.remove_others(&all).await?;
                for object in &all {
                    self.apply(object).await?;
                }
            }
            Event::Apply(object) => self.apply(&object).await?,
            Event::Delete(object) => {
                let key = self.stored(&object).key;
                self.sync.store.delete(&key.to_string(), Expect::Anything).await?;
            }
        }
        Ok(())
    }

    fn stored(&self, object: &DynamicObject) -> Stored {
        Stored::of(self.kind, self.author.prefix(), object)
    }

    /// Forgets what was deleted while nobody looked.
    async fn remove_others(&self, all: &[DynamicObject]) -> Result<(), StoreError> {
        let keys: BTreeSet<_> = all.iter().map(|one| self.stored(one).key.to_string()).collect();
        let prefix = format!("{}{}", self.kind.prefix(), self.author.prefix());
        for entry in self.sync.store.list(&prefix).await?.entries {
            if !keys.contains(&entry.key) {
                self.sync.store.delete(&entry.key, Expect::Anything).await?;
            }
        }
        Ok(())
    }

    /// Stores a policy that is valid; one that is not leaves what was before.
    async fn apply(&self, object: &DynamicObject) -> Result<(), StoreError> {
        let stored = self.stored(object);
        let checked = stored.value.as_ref().map_err(Clone::clone).and_then(|value| {
            check(&stored.key, value)?;
            Ok(value)
        });
        let told = match checked {
            Ok(value) => match self.write(&stored.key, value).await {
                Ok(()) => Ok(()),
                Err(error @ StoreError::ReadOnly(_)) => Err(error.to_string()),
                Err(error) => return Err(error),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = &told {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            let kind = &self.resource.kind;
            tracing::warn!(kind, namespace, name, reason, "a policy of the cluster does not hold");
        }
        if self.author == Author::Weft {
            self.tell(object, told.err()).await;
        }
        Ok(())
    }

    async fn write(&self, key: &ResourceKey, value: &Value) -> Result<(), StoreError> {
        let store = &self.sync.store;
        let known = store.get(&key.to_string()).await?;
        let known = known.and_then(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
        if known.as_ref() != Some(value) {
            store.put(Put::new(key.to_string(), value.to_string())).await?;
        }
        Ok(())
    }

    /// Says in the resource's status whether it holds; what is said already is not said again.
    async fn tell(&self, object: &DynamicObject, refused: Option<String>) {
        let (reason, message) = match refused {
            None => ("Accepted", "the policy holds".to_owned()),
            Some(message) => ("Invalid", message),
        };
        let status = if reason == "Accepted" { "True" } else { "False" };
        let before = &object.data["status"]["conditions"][0];
        let mut condition = json!({
            "type": "Accepted",
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": object.metadata.generation.unwrap_or_default(),
        });
        let same = |field: &str| before[field] == condition[field];
        if ["status", "reason", "message", "observedGeneration"].into_iter().all(same) {
            return;
        }
        let now = k8s_openapi::jiff::Timestamp::now();
        let since = before["lastTransitionTime"].as_str().filter(|_| same("status"));
        let since =
            since.map_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), str::to_owned);
        condition["lastTransitionTime"] = since.into();
        let Some(namespace) = object.namespace() else { return };
        let api = Api::<DynamicObject>::namespaced_with(
            self.sync.client.clone(),
            &namespace,
            &self.resource,
        );
        let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
        let name = object.name_any();
        if let Err(error) = api.patch_status(&name, &PatchParams::default(), &patch).await {
            tracing::warn!(namespace, name, %error, "the policy's status can't be written");
        }
    }
}

fn check(key: &ResourceKey, value: &Value) -> Result<(), DecodeError> {
    match key.kind {
        ResourceKind::PeerAuthentication => PeerAuthentication::from_json(value).map(drop),
        _ => AuthorizationPolicy::from_json(value).map(drop),
    }
}
