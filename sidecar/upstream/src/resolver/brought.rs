//! Names that requests bring (dynamic forward proxy): asked for when a request needs them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use weft_model::{ClusterHandle, NameSettings};

use super::names::Names;

/// How long a name that could not be resolved is not asked for again.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Answers the questions of a cluster's requests, for as long as it is polled.
pub(super) async fn answer(cluster: Arc<ClusterHandle>, settings: NameSettings, names: Arc<Names>) {
    let mut lookups = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = cluster.names().asked() => {
                for name in cluster.names().take_asked(settings.unused) {
                    lookups.push(look_up(&cluster, name, &settings, &names));
                }
            }
            Some(()) = lookups.next() => {}
        }
    }
}

async fn look_up(cluster: &ClusterHandle, name: Arc<str>, settings: &NameSettings, names: &Names) {
    match names.addresses(&name, settings.family).await {
        Ok(answer) => {
            let ttl = answer.ttl.unwrap_or(settings.refresh).max(settings.least_refresh);
            cluster.names().answer(&name, Some(answer.addresses.into()), ttl);
        }
        Err(error) => {
            tracing::debug!(cluster = %cluster.name(), %name, %error, "a name can't be resolved");
            cluster.names().answer(&name, None, AFTER_FAILURE);
        }
    }
}
