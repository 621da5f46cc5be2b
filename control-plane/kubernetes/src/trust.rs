//! What the cluster has to know of the mesh's authority: its roots in each namespace, for pods, and
//! in the webhook's configuration, for the API server.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Who applies, for Kubernetes' record of fields.
const FIELD_MANAGER: &str = "weft-control-plane";
/// The key of the roots in the ConfigMap.
const KEY: &str = "root-cert.pem";
/// The label of webhook configurations that are the mesh's.
const SELECTOR: &str = "app.kubernetes.io/part-of=weft,app.kubernetes.io/component=injector";
/// How often everything is looked at again, besides as namespaces come and webhooks change.
const AGAIN: Duration = Duration::from_secs(300);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Publishes the mesh's roots in a cluster.
#[derive(Clone)]
pub struct TrustPublisher {
    client: Client,
    roots_pem: String,
    config_map: String,
}

impl TrustPublisher {
    /// Publishes these roots (PEM), in the ConfigMap of this name in each namespace.
    pub fn new(client: Client, roots_pem: String, config_map: String) -> Self {
        Self { client, roots_pem, config_map }
    }

    /// Works for as long as it is polled; failures are told in the log and tried again.
    pub async fn run(self) {
        tokio::join!(self.namespaces(), self.webhooks());
    }

    async fn namespaces(&self) {
        loop {
            let events =
                watcher(Api::<Namespace>::all(self.client.clone()), watcher::Config::default())
                    .default_backoff()
                    .applied_objects();
            let mut events = std::pin::pin!(events);
            let again = tokio::time::sleep(AGAIN);
            tokio::pin!(again);
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = &mut again => break,
                };
                match event {
                    Some(Ok(namespace)) => self.namespace(&namespace).await,
                    Some(Err(error)) => tracing::warn!(%error, "the watch of namespaces failed"),
                    None => break,
                }
            }
        }
    }

    async fn namespace(&self, namespace: &Namespace) {
        let name = namespace.name_any();
        let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Terminating") {
            return;
        }
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &name);
        let wanted = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.config_map,
                "labels": { "app.kubernetes.io/part-of": "weft" },
            },
            "data": { KEY: self.roots_pem },
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch(&self.config_map, &parameters, &Patch::Apply(&wanted)).await {
            Ok(_) => tracing::debug!(namespace = %name, "roots published"),
            Err(error) => tracing::warn!(namespace = %name, %error, "the roots can't be published"),
        }
    }

    async fn webhooks(&self) {
        loop {
            let pause = match self.repair_webhooks().await {
                Ok(()) => self.webhooks_changed().await,
                Err(error) => {
                    tracing::warn!(%error, "the webhook's caBundle can't be set");
                    PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits until one differs from what it should be; the pause after that.
    async fn webhooks_changed(&self) -> Duration {
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let config = watcher::Config::default().labels(SELECTOR);
        let events = watcher(api, config).default_backoff().applied_objects();
        let mut events = std::pin::pin!(events);
        let differs = async {
            while let Some(event) = events.next().await {
                if event.is_ok_and(|webhook| self.needs_repair(&webhook)) {
                    return;
                }
            }
        };
        // Either way it is looked at again, at once or after the pause.
        let _ = tokio::time::timeout(AGAIN, differs).await;
        Duration::ZERO
    }

    async fn repair_webhooks(&self) -> Result<(), kube::Error> {
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let all = api.list(&ListParams::default().labels(SELECTOR)).await?;
        for webhook in all.items.iter().filter(|webhook| self.needs_repair(webhook)) {
            let name = webhook.name_any();
            let mut webhook = webhook.clone();
            for one in webhook.webhooks.iter_mut().flatten() {
                let bundle = k8s_openapi::ByteString(self.roots_pem.clone().into_bytes());
                one.client_config.ca_bundle = Some(bundle);
            }
            // Replaced as it was read: who changed it meanwhile is not overwritten.
            api.replace(&name, &kube::api::PostParams::default(), &webhook).await?;
            tracing::info!(webhook = %name, "caBundle set");
        }
        Ok(())
    }

    fn needs_repair(&self, webhook: &MutatingWebhookConfiguration) -> bool {
        let roots = self.roots_pem.as_bytes();
        webhook
            .webhooks
            .iter()
            .flatten()
            .any(|one| one.client_config.ca_bundle.as_ref().is_none_or(|bundle| bundle.0 != roots))
    }
}
