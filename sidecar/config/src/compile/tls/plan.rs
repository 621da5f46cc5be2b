//! A TLS configuration that is built, and built again, as its secrets arrive.

use std::sync::Arc;
use std::time::Duration;

use weft_filters::config::FieldError;
use weft_model::Slot;
use weft_tls::{
    CertifiedChain, ClientTls, ClientTlsSpec, ServerTls, ServerTlsSpec, SpecError, TrustBundle,
    ValidationSpec,
};

use super::FileSecret;
use crate::compile::secret::{SecretValue, merged};
use crate::compile::source::Server;

/// A secret that arrives on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SecretKey {
    /// By this name over the aggregated stream.
    Ads(Arc<str>),
    /// By this name from a server of secrets alone.
    Server(Server, Arc<str>),
    /// From files, which are watched.
    File(Arc<FileSecret>),
    /// The workload's own certificate, from the certificate agent.
    AgentCertificate,
    /// The roots of the mesh, from the certificate agent.
    AgentRoots,
}

impl SecretKey {
    /// The name that control planes call it by.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ads(name) | Self::Server(_, name) => name,
            Self::File(secret) => secret.name(),
            Self::AgentCertificate => "default",
            Self::AgentRoots => "ROOTCA",
        }
    }
}

/// A certificate that is there, or the secret that will hold it.
#[derive(Debug)]
pub(super) enum Wanted {
    Here(CertifiedChain),
    Named(SecretKey),
}

/// What peers are judged by: own rules, and those of a secret.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) own: ValidationSpec,
    pub(super) secret: Option<SecretKey>,
}

#[derive(Debug)]
pub(super) enum Side {
    Server { slot: Slot<ServerTls>, template: ServerTlsSpec },
    Client { slot: Slot<ClientTls>, template: ClientTlsSpec },
}

/// One TLS configuration: everything but the secrets, and the place that it goes to.
#[derive(Debug)]
pub(crate) struct TlsPlan {
    pub(super) side: Side,
    pub(super) certificates: Vec<Wanted>,
    pub(super) validation: Option<Validation>,
    pub(super) timeout: Option<Duration>,
}

/// What a configuration holds at the moment, and the name that it goes by.
pub(crate) enum Held {
    Chain(String, CertifiedChain),
    Roots(String, TrustBundle),
}

/// The name of what stands in the configuration itself.
const INLINE: &str = "inline";

/// Finds a secret.
pub(crate) type Lookup<'a> = dyn Fn(&SecretKey) -> Option<SecretValue> + 'a;

impl TlsPlan {
    /// The secrets that it needs.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretKey> {
        let certificates = self.certificates.iter().filter_map(|wanted| match wanted {
            Wanted::Here(_) => None,
            Wanted::Named(key) => Some(key),
        });
        let validation = self.validation.as_ref().and_then(|validation| validation.secret.as_ref());
        certificates.chain(validation)
    }

    /// The certificates and roots that are there.
    pub(crate) fn held(&self, lookup: &Lookup<'_>) -> Vec<Held> {
        let mut held = Vec::new();
        for wanted in &self.certificates {
            match wanted {
                Wanted::Here(chain) => held.push(Held::Chain(INLINE.to_owned(), chain.clone())),
                Wanted::Named(key) => {
                    if let Some(SecretValue::Certificate(chain)) = lookup(key) {
                        held.push(Held::Chain(key.name().to_owned(), chain));
                    }
                }
            }
        }
        let Some(Validation { own, secret }) = &self.validation else { return held };
        held.extend(own.roots.clone().map(|roots| Held::Roots(INLINE.to_owned(), roots)));
        if let Some(key) = secret
            && let Some(SecretValue::Validation(spec)) = lookup(key)
        {
            held.extend(spec.roots.map(|roots| Held::Roots(key.name().to_owned(), roots)));
        }
        held
    }

    /// How long its secrets are waited for; `None`: for ever.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether it was built.
    pub(crate) fn is_filled(&self) -> bool {
        match &self.side {
            Side::Server { slot, .. } => slot.is_filled(),
            Side::Client { slot, .. } => slot.is_filled(),
        }
    }

    /// Builds the configuration and puts it into its place, if all secrets are there.
    ///
    /// # Errors
    /// The secrets are there but can't be used; the place keeps what it held.
    pub(crate) fn fill(&self, lookup: &Lookup<'_>) -> Result<bool, FieldError> {
        let mut chains = Vec::with_capacity(self.certificates.len());
        for wanted in &self.certificates {
            chains.push(match wanted {
                Wanted::Here(chain) => chain.clone(),
                Wanted::Named(key) => match lookup(key) {
                    None => return Ok(false),
                    Some(SecretValue::Certificate(chain)) => chain,
                    Some(_) => return Err(wrong_kind(key, "certificate")),
                },
            });
        }
        let mut judged = None;
        if let Some(Validation { own, secret }) = &self.validation {
            judged = Some(match secret {
                None => own.clone(),
                Some(key) => match lookup(key) {
                    None => return Ok(false),
                    Some(SecretValue::Validation(spec)) => merged(own, &spec),
                    Some(_) => return Err(wrong_kind(key, "validation context")),
                },
            });
        }
        self.build(chains, judged).map_err(|error| FieldError::new(error.to_string()))?;
        Ok(true)
    }

    fn build(
        &self,
        chains: Vec<CertifiedChain>,
        validation: Option<ValidationSpec>,
    ) -> Result<(), SpecError> {
        match &self.side {
            Side::Server { slot, template } => {
                let spec = ServerTlsSpec { certificates: chains, validation, ..template.clone() };
                slot.set(Arc::new(ServerTls::new(&spec)?));
            }
            Side::Client { slot, template } => {
                let certificate = chains.into_iter().next();
                let spec = ClientTlsSpec { certificate, validation, ..template.clone() };
                slot.set(Arc::new(ClientTls::new(&spec)?));
            }
        }
        Ok(())
    }
}

fn wrong_kind(key: &SecretKey, wanted: &str) -> FieldError {
    FieldError::new(format!("the secret {:?} is no {wanted}", key.name()))
}
