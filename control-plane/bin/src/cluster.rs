//! The cluster that the control plane runs in, if it runs in one.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;
use weft_control_model::{Discover, DiscoverError, Discovery, Endpoints, Scheme};
use weft_discovery::MeshRegistry;
use weft_kubernetes::{Client, KubernetesRegistry, Lease, PolicySync, TrustPublisher};
use weft_store::Store;

/// The lease of the control plane that publishes.
const LEASE: &str = "weft-control-plane";

/// What is done in a Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesConfig {
    /// The control plane's own namespace.
    pub namespace: String,
    /// Whether Services can be discovered (`discovery_type: kubernetes`).
    pub discovery: bool,
    /// Whether service accounts' tokens prove identities.
    pub token_review: bool,
    /// Whether the roots are published in namespaces and webhooks.
    pub publish_roots: bool,
    /// The ConfigMap of the roots in each namespace.
    pub root_config_map: String,
    /// Whether policies are taken from custom resources (`weft.dev/v1`).
    pub policies: bool,
    /// Whether they are taken from Istio's (`security.istio.io/v1`) besides.
    pub istio_policies: bool,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            namespace: "weft-system".to_owned(),
            discovery: true,
            token_review: true,
            publish_roots: true,
            root_config_map: "weft-ca-root-cert".to_owned(),
            policies: true,
            istio_policies: false,
        }
    }
}

/// The cluster, and what is known of it.
#[derive(Clone)]
pub(crate) struct Cluster {
    config: KubernetesConfig,
    pub(crate) client: Client,
    registry: Option<Arc<KubernetesRegistry>>,
}

impl Cluster {
    /// The cluster that this program runs in, or that the kubeconfig names.
    pub(crate) async fn open(config: &KubernetesConfig) -> Result<Self> {
        let client = weft_kubernetes::client()
            .await
            .context("kubernetes: neither in a cluster, nor is there a kubeconfig")?;
        let registry = config.discovery.then(|| Arc::new(KubernetesRegistry::default()));
        Ok(Self { config: config.clone(), client, registry })
    }

    /// Whether tokens are asked about.
    pub(crate) fn reviews_tokens(&self) -> bool {
        self.config.token_review
    }

    /// Follows the cluster; publishes the roots and takes policies while this control plane is the one
    /// to do it.
    pub(crate) async fn run(self, roots_pem: String, store: Arc<dyn Store>) {
        let following = async {
            match &self.registry {
                Some(registry) => {
                    weft_kubernetes::follow(self.client.clone(), Arc::clone(registry)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::join!(following, self.lead(roots_pem, store));
    }

    async fn lead(&self, roots_pem: String, store: Arc<dyn Store>) {
        let KubernetesConfig { publish_roots, policies, istio_policies, .. } = self.config;
        if !(publish_roots || policies || istio_policies) {
            return;
        }
        let holder = format!("{}-{}", hostname(), uuid::Uuid::new_v4());
        let lease = Lease::new(self.client.clone(), &self.config.namespace, LEASE, &holder);
        let map = &self.config.root_config_map;
        let publisher = TrustPublisher::new(self.client.clone(), roots_pem, map.clone());
        let sync = PolicySync::new(self.client.clone(), store, policies, istio_policies);
        let work = || {
            let (publisher, sync) = (publisher.clone(), sync.clone());
            async move {
                let publishing = async {
                    if publish_roots {
                        publisher.run().await;
                    }
                };
                tokio::join!(publishing, sync.run());
            }
        };
        Box::pin(lease.while_held(work)).await;
    }
}

/// All registries of endpoints.
#[derive(Clone)]
pub(crate) struct Registries {
    pub(crate) mesh: Arc<MeshRegistry>,
    pub(crate) kubernetes: Option<Arc<KubernetesRegistry>>,
}

impl Registries {
    pub(crate) fn new(mesh: Arc<MeshRegistry>, cluster: Option<&Cluster>) -> Self {
        Self { mesh, kubernetes: cluster.and_then(|cluster| cluster.registry.clone()) }
    }

    /// Waits until endpoints, or the time of [`MeshRegistry::expire`], may have changed.
    pub(crate) async fn changed(&self) {
        let cluster = async {
            match &self.kubernetes {
                Some(registry) => registry.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.mesh.changed() => {}
            () = cluster => {}
        }
    }
}

impl Discover for Registries {
    fn endpoints(&self, service: &Discovery, scheme: Scheme) -> Result<Endpoints, DiscoverError> {
        match (service.registry.as_str(), &self.kubernetes) {
            ("kubernetes", Some(registry)) => registry.endpoints(service, scheme),
            _ => self.mesh.endpoints(service, scheme),
        }
    }
}

/// The pod's name, in a cluster.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "control-plane".to_owned(), |name| name.trim().to_owned())
}
