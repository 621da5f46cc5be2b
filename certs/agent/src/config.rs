//! What an agent is told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_spiffe::SpiffeId;

/// How a workload gets certificates from an authority.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The authority's address, `host:port`.
    pub ca_address: String,
    /// The name (DNS name or IP address) that the authority's certificate must have; a DNS name is
    /// also sent as server name.
    pub server_name: String,
    /// PEM file with the roots that vouch for the authority's own certificate. Read anew for each
    /// attempt; a change makes the agent renew at once.
    pub trust_roots: PathBuf,
    /// File with the token that proves the identity for as long as there is no certificate. Read
    /// anew for each attempt.
    pub token: Option<PathBuf>,
    /// Folder with a certificate (`cert-chain.pem`, `key.pem`, `root-cert.pem`) that proves the
    /// identity in place of a token, as on a virtual machine.
    pub identity_folder: Option<PathBuf>,
    /// The identity that is expected in certificates.
    pub identity: SpiffeId,
    /// The lifetime to ask for.
    pub ttl: Duration,
    /// The kind of keys.
    pub key_type: KeyType,
    /// File (mode 0600) that keeps certificate and key over restarts.
    pub cache: Option<PathBuf>,
    /// Pauses between attempts.
    pub retry: RetryPolicy,
    /// The time of day.
    pub clock: Clock,
}

impl AgentConfig {
    /// Certificates for a day, ECDSA keys, no token and no cache.
    pub fn new(
        ca_address: impl Into<String>,
        server_name: impl Into<String>,
        trust_roots: impl Into<PathBuf>,
        identity: SpiffeId,
    ) -> Self {
        Self {
            ca_address: ca_address.into(),
            server_name: server_name.into(),
            trust_roots: trust_roots.into(),
            token: None,
            identity_folder: None,
            identity,
            ttl: Duration::from_secs(24 * 3600),
            key_type: KeyType::EcdsaP256,
            cache: None,
            retry: RetryPolicy::default(),
            clock: Clock::default(),
        }
    }
}

/// The kind of a workload's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// ECDSA on the curve P-256.
    #[default]
    EcdsaP256,
    /// RSA with 2048 bits, for peers that know nothing else.
    Rsa2048,
}

/// Pauses between attempts: doubled after each failure, with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Pause after the first failure.
    pub initial: Duration,
    /// Longest pause.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// Certificates in files that someone else renews.
#[derive(Debug, Clone)]
pub struct FilesConfig {
    /// PEM file with the chain, leaf first.
    pub chain: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
    /// PEM file with the trusted roots.
    pub roots: PathBuf,
    /// How often the files are looked at.
    pub poll: Duration,
}

impl FilesConfig {
    /// Looks every five seconds.
    pub fn new(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        roots: impl Into<PathBuf>,
    ) -> Self {
        Self {
            chain: chain.into(),
            key: key.into(),
            roots: roots.into(),
            poll: Duration::from_secs(5),
        }
    }
}

/// The time of day; the system's unless a test says otherwise.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// Takes a function that tells the time.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
