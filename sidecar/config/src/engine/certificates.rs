//! The certificates in use, for `/certs`.

use std::sync::Arc;

use weft_spiffe::CertificateDetails;
use weft_tls::{CertifiedChain, TrustBundle};

use super::Engine;
use crate::compile::{Held, TlsPlan};

/// What one TLS configuration shows and trusts.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownCertificates {
    /// Where it comes from: the secret's name, or `inline` for what stands in the configuration.
    pub name: String,
    /// The chain that is shown, leaf first.
    pub chain: Vec<CertificateDetails>,
    /// The roots that peers are checked against.
    pub roots: Vec<CertificateDetails>,
}

impl Engine {
    /// The certificates of all listeners and clusters that serve, each once.
    #[must_use]
    pub fn certificates(&self) -> Vec<ShownCertificates> {
        let listeners = self.listeners.values().filter_map(|entry| entry.active.as_ref());
        let clusters = self.clusters.values().filter_map(|entry| entry.active.as_ref());
        let listeners = listeners.flat_map(|version| &version.value.needs.tls);
        let plans = listeners.chain(clusters.flat_map(|version| &version.value.needs.tls));
        let mut shown = Vec::new();
        for plan in plans {
            for certificates in self.of_plan(plan) {
                if !shown.contains(&certificates) {
                    shown.push(certificates);
                }
            }
        }
        shown.sort_by(|a: &ShownCertificates, b| a.name.cmp(&b.name));
        shown
    }

    fn of_plan(&self, plan: &Arc<TlsPlan>) -> Vec<ShownCertificates> {
        let held = plan.held(&|key| self.secrets.value(key).cloned());
        held.into_iter()
            .map(|held| match held {
                Held::Chain(name, chain) => {
                    ShownCertificates { name, chain: details_of_chain(&chain), roots: Vec::new() }
                }
                Held::Roots(name, roots) => {
                    ShownCertificates { name, chain: Vec::new(), roots: details_of_roots(&roots) }
                }
            })
            .collect()
    }
}

/// Certificates that the TLS engine took are readable; one that is not is left out.
fn details_of_chain(chain: &CertifiedChain) -> Vec<CertificateDetails> {
    chain.certificates().iter().filter_map(|der| CertificateDetails::from_der(der).ok()).collect()
}

fn details_of_roots(roots: &TrustBundle) -> Vec<CertificateDetails> {
    roots.certificates().iter().filter_map(|der| CertificateDetails::from_der(der).ok()).collect()
}
