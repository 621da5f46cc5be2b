//! Secrets in the engine: a new one rebuilds the TLS configurations that use it, and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime};

use weft_filters::config::{FieldError, decode};
use weft_tls::{CertifiedChain, TrustBundle, ValidationSpec};
use weft_xds_client::{Rejection, Resource, ResourceType, ResourceUpdate};
use weft_xds_proto::Any;
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;

use super::{Engine, rejection, stamp};
use crate::compile::{self, SecretKey, SecretValue, Server, TlsPlan};

/// The workload's certificate with its key, and the roots of the mesh.
#[derive(Clone, Debug)]
pub struct AgentCertificates {
    /// The certificate, served to configurations as `default`.
    pub chain: CertifiedChain,
    /// The roots, served to configurations as `ROOTCA`.
    pub roots: TrustBundle,
}

/// A server of secrets besides the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretServer(Server);

impl SecretServer {
    /// The cluster that it is reached by.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.0.cluster
    }

    /// Whether the incremental variant is spoken.
    #[must_use]
    pub fn is_incremental(&self) -> bool {
        self.0.incremental
    }
}

/// Secrets that arrive on their own, and who uses them.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    values: HashMap<SecretKey, SecretValue>,
    users: HashMap<SecretKey, Vec<Weak<TlsPlan>>>,
    /// What came from the control plane and from servers of secrets.
    pub(super) received: BTreeMap<SecretKey, Received>,
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
    fn used(&self) -> impl Iterator<Item = &SecretKey> {
        let used =
            self.users.iter().filter(|(_, users)| users.iter().any(|u| u.strong_count() > 0));
        used.map(|(key, _)| key)
    }

    /// The names to ask the control plane for.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let names = self.used().filter_map(|key| match key {
            SecretKey::Ads(name) => Some(name.to_string()),
            _ => None,
        });
        names.collect()
    }

    /// The secrets that have not come yet.
    pub(super) fn awaited(&self) -> BTreeSet<&SecretKey> {
        let asked = |key: &&SecretKey| matches!(key, SecretKey::Ads(_) | SecretKey::Server(..));
        self.used().filter(asked).filter(|key| !self.received.contains_key(key)).collect()
    }

    /// What a secret holds.
    pub(super) fn value(&self, key: &SecretKey) -> Option<&SecretValue> {
        self.values.get(key)
    }

    /// Whether anybody uses a secret of the control plane.
    pub(super) fn is_used(&self, key: &SecretKey) -> bool {
        self.users.get(key).is_some_and(|users| users.iter().any(|user| user.strong_count() > 0))
    }

    /// Builds the plans whose secrets are there, and remembers who uses what.
    fn enlist(&mut self, plans: &[Arc<TlsPlan>]) -> Result<(), FieldError> {
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
    pub(super) fn put(&mut self, key: SecretKey, value: SecretValue) -> Result<(), FieldError> {
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

    /// Forgets a secret that nobody uses any more.
    pub(super) fn forget(&mut self, key: &SecretKey) {
        self.values.remove(key);
        self.users.remove(key);
    }

    /// Forgets secrets of the control plane that nobody uses any more.
    fn sweep(&mut self) {
        let unused: Vec<_> =
            self.received.keys().filter(|key| !self.is_used(key)).cloned().collect();
        for key in unused {
            self.received.remove(&key);
            self.forget(&key);
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

    /// Remembers who uses which secrets, reads those in files, and builds what can be built.
    pub(super) fn enlist(&mut self, plans: &[Arc<TlsPlan>]) -> Result<(), FieldError> {
        self.load_secrets(plans.iter().flat_map(|plan| plan.secrets()))?;
        self.secrets.enlist(plans)
    }

    /// Takes a secret of the control plane.
    pub(super) fn add_secret(
        &mut self,
        resource: &Resource,
        version: &str,
    ) -> Result<(), FieldError> {
        let key = SecretKey::Ads(resource.name.as_str().into());
        self.take_secret(key, resource, version)
    }

    /// Takes a secret from whom it was asked of.
    fn take_secret(
        &mut self,
        key: SecretKey,
        resource: &Resource,
        version: &str,
    ) -> Result<(), FieldError> {
        self.secrets.sweep();
        if !self.secrets.is_used(&key) {
            return Ok(());
        }
        if let Some(held) = self.secrets.received.get_mut(&key)
            && held.raw == resource.body
        {
            version.clone_into(&mut held.version);
            return Ok(());
        }
        let config: PbSecret = decode(&resource.body)?;
        self.secrets.put(key.clone(), compile::secret(&config)?)?;
        let received = Received {
            raw: Arc::clone(&resource.body),
            version: version.to_owned(),
            updated: stamp(),
        };
        self.secrets.received.insert(key, received);
        Ok(())
    }

    /// The servers of secrets besides the control plane, and what is wanted of each.
    #[must_use]
    pub fn secret_servers(&self) -> BTreeMap<SecretServer, BTreeSet<String>> {
        let mut servers = BTreeMap::<_, BTreeSet<_>>::new();
        for key in self.secrets.used() {
            if let SecretKey::Server(server, name) = key {
                let names = servers.entry(SecretServer(server.clone())).or_default();
                names.insert(name.to_string());
            }
        }
        servers
    }

    /// Applies what a server of secrets sent; returns what can't be accepted.
    pub fn apply_secrets(
        &mut self,
        server: &SecretServer,
        update: &ResourceUpdate,
        now: Instant,
    ) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        for resource in &update.added {
            let version = Some(&resource.version).filter(|version| !version.is_empty());
            let key = SecretKey::Server(server.0.clone(), resource.name.as_str().into());
            let taken = self.take_secret(key, resource, version.unwrap_or(&update.version));
            if let Err(error) = taken {
                rejections.push(rejection(ResourceType::Secret, &resource.name, error));
            }
        }
        self.advance(now);
        rejections
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
