//! Following the cluster: lists, then watches with bookmarks, and lists anew when the server has
//! forgotten what came between (410).

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::registry::KubernetesRegistry;

/// Objects in a page of a list.
const PAGE: u32 = 500;

/// Keeps the registry as the cluster is, for as long as it is polled. Failures are told in the log
/// and tried again, ever more slowly; what is known stays known meanwhile.
pub async fn follow(client: Client, registry: Arc<KubernetesRegistry>) {
    let registry = &*registry;
    tokio::join!(
        one::<Service>(client.clone(), "Services", |event| registry.service(event)),
        one::<EndpointSlice>(client.clone(), "EndpointSlices", |event| registry.slice(event)),
        one::<Pod>(client.clone(), "Pods", |event| registry.pod(event)),
        one::<Node>(client, "Nodes", |event| registry.node(event)),
    );
}

async fn one<K>(client: Client, what: &'static str, take: impl Fn(Event<K>))
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + 'static,
{
    let config = watcher::Config::default().page_size(PAGE);
    let events = watcher(Api::<K>::all(client), config).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(event),
            Err(error) => tracing::warn!(what, %error, "the watch failed and begins anew"),
        }
    }
}
