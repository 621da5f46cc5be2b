//! The agent's life: cache, first certificate, renewal, retries.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use weft_tls::CertifiedChain;

use crate::cache;
use crate::certificates::WorkloadCertificates;
use crate::config::{AgentConfig, FilesConfig};
use crate::fetch::{self, read};
use crate::files;
use crate::schedule::{pause, renewal_time};

/// Longest sleep before the clock and the trusted roots are looked at again: a suspended machine
/// or an adjusted clock must not delay a renewal for long.
const GLANCE: Duration = Duration::from_secs(5);

pub(crate) type Current = Option<Arc<WorkloadCertificates>>;

/// Keeps a workload's certificate current. Ends when dropped.
#[derive(Debug)]
pub struct Agent {
    certificates: watch::Receiver<Current>,
    failure: watch::Receiver<Option<String>>,
    /// Owns the one task; dropping it ends the task.
    _task: JoinSet<()>,
}

impl Agent {
    /// Starts an agent that has its keys certified by an authority; needs a tokio runtime.
    ///
    /// A valid certificate in the cache is there at once, also when the authority is not.
    pub fn spawn(config: AgentConfig) -> Self {
        let cached = load_cache(&config).map(Arc::new);
        Self::start(cached.clone(), |reporter| {
            let life = Life { config, current: cached, reporter };
            life.run()
        })
    }

    /// Starts an agent that follows files that someone else renews; needs a tokio runtime.
    pub fn watch_files(config: FilesConfig) -> Self {
        Self::start(None, |reporter| files::follow(config, reporter))
    }

    /// The current certificate: `None` until the first is there, then the latest.
    pub fn certificates(&self) -> watch::Receiver<Current> {
        self.certificates.clone()
    }

    /// Why the latest attempt failed; `None` after a success.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    fn start<F>(first: Current, life: impl FnOnce(Reporter) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (certificates, certificates_receiver) = watch::channel(first);
        let (failure, failure_receiver) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(life(Reporter { certificates, failure }));
        Self { certificates: certificates_receiver, failure: failure_receiver, _task: task }
    }
}

/// Where an agent's task tells what it has.
pub(crate) struct Reporter {
    certificates: watch::Sender<Current>,
    failure: watch::Sender<Option<String>>,
}

impl Reporter {
    pub(crate) fn succeeded(&self, certificates: Arc<WorkloadCertificates>) {
        self.certificates.send_replace(Some(certificates));
        self.failure.send_replace(None);
    }

    pub(crate) fn failed(&self, reason: String) {
        self.failure.send_replace(Some(reason));
    }
}

struct Life {
    config: AgentConfig,
    current: Current,
    reporter: Reporter,
}

impl Life {
    async fn run(mut self) {
        loop {
            if let Some(current) = self.current.clone() {
                self.wait_for_renewal(&current).await;
            }
            let new = Arc::new(self.obtain().await);
            if let Some(path) = &self.config.cache
                && let Err(error) = cache::store(path, &self.config.identity, &new)
            {
                tracing::warn!(path = %path.display(), %error, "certificate not kept on disk");
            }
            tracing::info!(identity = %self.config.identity, certificate = ?new, "certificate obtained");
            self.current = Some(Arc::clone(&new));
            self.reporter.succeeded(new);
        }
    }

    /// Returns when the certificate is due, or the trusted roots' file has changed.
    async fn wait_for_renewal(&self, current: &WorkloadCertificates) {
        let due = renewal_time(current.obtained_at(), current.not_after(), fastrand::f64());
        let roots = modified(&self.config.trust_roots);
        loop {
            let Ok(left) = due.duration_since(self.config.clock.now()) else {
                return;
            };
            if left.is_zero() {
                return;
            }
            sleep(left.min(GLANCE)).await;
            let now = modified(&self.config.trust_roots);
            if now.is_some() && now != roots {
                tracing::info!("trusted roots changed, renewing the certificate");
                return;
            }
        }
    }

    /// Tries until there is a new certificate.
    async fn obtain(&self) -> WorkloadCertificates {
        let mut failures = 0;
        loop {
            let proof = self.proof();
            match fetch::obtain(&self.config, proof.as_ref()).await {
                Ok(certificates) => return certificates,
                Err(error) => {
                    failures += 1;
                    let pause = pause(self.config.retry, failures, fastrand::f64());
                    tracing::warn!(%error, failures, ?pause, "no new certificate");
                    self.reporter.failed(error.to_string());
                    sleep(pause).await;
                }
            }
        }
    }

    /// The certificate that proves the identity: the current one, or the one we were given.
    fn proof(&self) -> Option<CertifiedChain> {
        if let Some(current) = &self.current {
            return Some(current.credential().clone());
        }
        let folder = self.config.identity_folder.as_ref()?;
        let given = (|| {
            let chain = read(&folder.join("cert-chain.pem"))?;
            let key = read(&folder.join("key.pem"))?;
            Ok::<_, crate::FetchError>(CertifiedChain::from_pem(chain.as_bytes(), key.as_bytes())?)
        })();
        given
            .inspect_err(|error| tracing::warn!(%error, "the given certificate can't be used"))
            .ok()
    }
}

fn load_cache(config: &AgentConfig) -> Option<WorkloadCertificates> {
    let path = config.cache.as_ref()?;
    cache::load(path, &config.identity, config.clock.now()).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cached certificate not used");
        None
    })
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
