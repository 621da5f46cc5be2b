//! Secrets in the engine: a new one rebuilds the TLS configurations that use it, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use weft_filters::config::{FieldError, decode};
use weft_tls::{CertifiedChain, TrustBundle, ValidationSpec};
use weft_xds_client::Resource;
use weft_xds_proto::Any;
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;

use super::{Engine, stamp};
use crate::compile::{self, SecretKey, SecretValue, TlsPlan};

/// The workload's certificate with its key, and the roots of the mesh.
#[derive(Clone, Debug)]
pub struct AgentCertificates {
    /// The certificate, served to configurations as `default`.
    pub chain: CertifiedChain,
    /// The roots, served to configurations as `ROOTCA`.
    pub roots: TrustBundle,
}

/// Secrets that arrive on their own, and who uses them.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    values: HashMap<SecretKey, SecretValue>,
    users: HashMap<SecretKey, Vec<Weak<TlsPlan>>>,
    /// What came over the aggregated stream, by name.
    pub(super) received: BTreeMap<Arc<str>, Received>,
    /// `static_resources.secrets`
    pub(super) fixed: Vec<(String, Arc<Any>)>,
    /// When the agent gave its certificates last.
    pub(super) agent: Option<(SystemTime, AgentCertificates)>,
}

/// A secret as it came.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) raw: Arc<Any>,
    pub(super) version: String,
    pub(super) updated: SystemTime,
}

impl Secrets {
    /// The names to ask the control plane for.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let used =
            self.users.iter().filter(|(_, users)| users.iter().any(|u| u.strong_count() > 0));
        used.filter_map(|(key, _)| match key {
            SecretKey::Ads(name) => Some(name.to_string()),
            SecretKey::AgentCertificate | SecretKey::AgentRoots => None,
        })
        .collect()
    }

    /// What a secret holds.
    pub(super) fn value(&self, key: &SecretKey) -> Option<&SecretValue> {
        self.values.get(key)
    }

    /// Whether anybody uses a secret of the control plane.
    fn is_used(&self, key: &SecretKey) -> bool {
        self.users.get(key).is_some_and(|users| users.iter().any(|user| user.strong_count() > 0))
    }

    /// Builds the plans whose secrets are there, and remembers who uses what.
    pub(super) fn enlist(&mut self, plans: &[Arc<TlsPlan>]) -> Result<(), FieldError> {
        for plan in plans {
            plan.fill(&|key| self.values.get(key).cloned())?;
        }
        for plan in plans {
            for key in plan.secrets() {
                let users = self.users.entry(key.clone()).or_default();
                // Those that are gone are swept when the list would grow.
                if users.len() == users.capacity() {
                    users.retain(|user| user.strong_count() > 0);
                }
                users.push(Arc::downgrade(plan));
            }
        }
        Ok(())
    }

    /// Takes a secret and rebuilds those who use it; the first error of theirs.
    fn put(&mut self, key: SecretKey, value: SecretValue) -> Result<(), FieldError> {
        let before = self.values.insert(key.clone(), value);
        let users = self.users.entry(key.clone()).or_default();
        users.retain(|user| user.strong_count() > 0);
        let values = &self.values;
        let fill = |user: Arc<TlsPlan>| user.fill(&|key| values.get(key).cloned()).map(drop);
        let outcome = users.iter().filter_map(Weak::upgrade).map(fill).fold(Ok(()), Result::and);
        if outcome.is_err() {
            match before {
                Some(before) => self.values.insert(key, before),
                None => self.values.remove(&key),
            };
        }
        outcome
    }

    /// Forgets secrets of the control plane that nobody uses any more.
    fn sweep(&mut self) {
        let unused: Vec<_> = self
            .received
            .keys()
            .filter(|name| !self.is_used(&SecretKey::Ads(Arc::clone(name))))
            .cloned()
            .collect();
        for name in unused {
            self.received.remove(&name);
            self.values.remove(&SecretKey::Ads(Arc::clone(&name)));
            self.users.remove(&SecretKey::Ads(name));
        }
    }
}

impl Engine {
    /// Takes a secret of the bootstrap file.
    pub(super) fn fixed_secret(&mut self, resource: &Resource) -> Result<(), FieldError> {
        let config: PbSecret = decode(&resource.body)?;
        let value = compile::secret(&config)?;
        if self.sources.fixed.insert(config.name.clone(), value).is_some() {
            return Err(FieldError::at("name", format!("{:?} is there twice", config.name)));
        }
        self.secrets.fixed.push((config.name, Arc::clone(&resource.body)));
        Ok(())
    }

    /// Takes a secret of the control plane.
    pub(super) fn add_secret(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), FieldError> {
        let name: Arc<str> = resource.name.as_str().into();
        let key = SecretKey::Ads(Arc::clone(&name));
        self.secrets.sweep();
        if !self.secrets.is_used(&key) {
            return Ok(());
        }
        if let Some(held) = self.secrets.received.get_mut(&name)
            && held.raw == resource.body
        {
            version.clone_into(&mut held.version);
            return Ok(());
        }
        let config: PbSecret = decode(&resource.body)?;
        self.secrets.put(key, compile::secret(&config)?)?;
        let received = Received {
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            updated: stamp(),
        };
        self.secrets.received.insert(name, received);
        Ok(())
    }

    /// Takes the certificates of the certificate agent: the first time, and after each rotation.
    ///
    /// # Errors
    /// A TLS configuration can't use them; those that can do already.
    pub fn set_agent_certificates(
        &mut self,
        certificates: AgentCertificates,
        now: Instant,
    ) -> Result<(), FieldError> {
        let chain = SecretValue::Certificate(certificates.chain.clone());
        let roots = ValidationSpec::new(certificates.roots.clone(), Vec::new());
        let first = self.secrets.put(SecretKey::AgentCertificate, chain);
        let second = self.secrets.put(SecretKey::AgentRoots, SecretValue::Validation(roots));
        self.secrets.agent = Some((stamp(), certificates));
        self.advance(now);
        first.and(second)
    }
}
