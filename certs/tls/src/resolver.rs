//! Choice of a server's certificate by the name that the client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::credential::CertifiedChain;

/// Certificates by exact name, by wildcard, and in the order given.
///
/// Among several for one name, the first whose key the client can verify is taken (an ECDSA and an
/// RSA certificate may stand side by side). A name that none covers gets the first of all.
#[derive(Debug)]
pub(crate) struct CertificateByName {
    all: Vec<Arc<CertifiedKey>>,
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// Keyed by the name without `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl CertificateByName {
    pub(crate) fn new(certificates: &[CertifiedChain]) -> Self {
        let mut by_name = Self {
            all: certificates.iter().map(|chain| Arc::clone(chain.key())).collect(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        };
        for chain in certificates {
            for name in names(chain) {
                let name = name.to_ascii_lowercase();
                let keys = match name.strip_prefix("*.") {
                    Some(parent) => by_name.wildcard.entry(parent.to_owned()).or_default(),
                    None => by_name.exact.entry(name).or_default(),
                };
                keys.push(Arc::clone(chain.key()));
            }
        }
        by_name
    }

    fn candidates(&self, server_name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = server_name.to_ascii_lowercase();
        let parent = || name.split_once('.').map(|(_, parent)| parent);
        self.exact.get(&name).or_else(|| self.wildcard.get(parent()?))
    }
}

impl ResolvesServerCert for CertificateByName {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates =
            client_hello.server_name().and_then(|name| self.candidates(name)).unwrap_or(&self.all);
        let schemes = client_hello.signature_schemes();
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        candidates.iter().find(usable).or_else(|| candidates.first()).cloned()
    }
}

/// The DNS names of a leaf; its common names when it has none.
fn names(chain: &CertifiedChain) -> Vec<&str> {
    let names: Vec<&str> = chain.leaf().dns_names().collect();
    if names.is_empty() {
        return chain.leaf().common_names.iter().map(String::as_str).collect();
    }
    names
}
