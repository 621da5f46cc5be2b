//! The control plane's part in a Kubernetes cluster: where services run, who a token belongs to,
//! and what the cluster has to know of the mesh's authority.
//!
//! [`KubernetesRegistry`] follows Services, EndpointSlices, Pods and Nodes; [`TokenReviews`] asks
//! the API server about tokens; [`TrustPublisher`] brings the mesh's roots into every namespace and
//! into the webhook's configuration; [`PolicySync`] brings policies into the store; [`Lease`] sees to it that one control plane at a time does so.

mod facts;
mod lease;
mod policies;
mod registry;
mod table;
mod token_review;
mod trust;
mod watching;

pub use kube::{Client, Config};
pub use lease::Lease;
pub use policies::PolicySync;
pub use registry::KubernetesRegistry;
pub use token_review::TokenReviews;
pub use trust::TrustPublisher;
pub use watching::follow;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// A client of the cluster that this program runs in, or that the user's kubeconfig names.
///
/// # Errors
/// Neither is there, or can't be used.
pub async fn client() -> Result<Client, kube::Error> {
    Client::try_default().await
}
