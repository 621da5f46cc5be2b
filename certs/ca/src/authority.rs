//! The authority: its key, its chain, and the certificates it issues.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, Issuer, KeyPair, PublicKeyData, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use weft_spiffe::{CertificateDetails, SpiffeId, TrustDomain};
use weft_tls::{CertifiedChain, SpecError, TrustBundle};

use crate::csr;
use crate::error::{AuthorityError, IssueError};
use crate::storage::{self, PUBLIC, SECRET};
use crate::template;

/// Where the authority keeps its files, and what it issues.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// The folder. With `ca-cert.pem` and `ca-key.pem` (and `root-cert.pem`, `cert-chain.pem`) in
    /// it, as Istio names them, that authority is used; otherwise `root-cert.pem` and
    /// `root-key.pem`, which are made at first start.
    pub folder: PathBuf,
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Lifetime of a certificate when the request names none.
    pub default_ttl: Duration,
    /// Longest lifetime; what is asked for beyond is cut.
    pub max_ttl: Duration,
}

impl AuthorityConfig {
    /// Certificates for a day by default, ninety days at most.
    pub fn new(folder: impl Into<PathBuf>, trust_domain: TrustDomain) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { folder: folder.into(), trust_domain, default_ttl: DAY, max_ttl: 90 * DAY }
    }
}

/// A certificate that was issued for a signing request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The leaf, then the intermediates, each as PEM.
    pub chain: Vec<String>,
    /// All trusted roots as PEM.
    pub roots: String,
    /// End of the validity.
    pub not_after: SystemTime,
}

/// The names of a server certificate for the control plane itself.
#[derive(Debug, Clone, Default)]
pub struct ServerNames {
    /// DNS names, such as `weft.weft-system.svc`.
    pub dns: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// The SPIFFE identity.
    pub spiffe_id: Option<SpiffeId>,
}

/// A certificate with a key of its own, for the control plane's servers.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// Chain and key.
    pub credential: CertifiedChain,
    /// End of the validity.
    pub not_after: SystemTime,
}

/// A certificate authority.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    /// From the signing certificate up, without roots; empty when a root signs.
    intermediates: Vec<String>,
    roots_pem: String,
    roots: TrustBundle,
    not_after: SystemTime,
    config: AuthorityConfig,
}

impl CertificateAuthority {
    /// Opens the authority in the folder, or makes one there.
    ///
    /// # Errors
    /// [`AuthorityError`] naming the file that is missing or can't be used.
    pub fn open(config: AuthorityConfig) -> Result<Self, AuthorityError> {
        let file = |name: &str| config.folder.join(name);
        let given = (file("ca-cert.pem"), file("ca-key.pem"));
        let own = (file("root-cert.pem"), file("root-key.pem"));
        if let Some(pair) = read_pair(&given)? {
            return Self::from_files(config, &given.0, &pair);
        }
        if storage::read(&own.1)?.is_none() && storage::read(&own.0)?.is_none() {
            make_root(&config, &own)?;
        }
        match read_pair(&own)? {
            Some(pair) => Self::from_files(config, &own.0, &pair),
            None => {
                Err(AuthorityError::Incomplete { present: config.folder.clone(), missing: own.0 })
            }
        }
    }

    fn from_files(
        config: AuthorityConfig,
        path: &Path,
        (certificate, key): &(String, String),
    ) -> Result<Self, AuthorityError> {
        let unusable = |source| AuthorityError::Certificate { path: path.to_owned(), source };
        let content = |reason: String| AuthorityError::Content { path: path.to_owned(), reason };
        // Checks the PEM blocks and that the key belongs to the certificate.
        let signer =
            CertifiedChain::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(unusable)?;
        if !signer.leaf().is_authority {
            return Err(content("it is not an authority's certificate (CA:TRUE)".into()));
        }
        let key = KeyPair::from_pem(key).map_err(|error| content(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&signer.certificates()[0], key)
            .map_err(|error| content(error.to_string()))?;
        let (roots_pem, roots) = read_roots(&config.folder, certificate, &signer)?;
        let intermediates = intermediates(&config.folder, &signer, &roots)?;
        Ok(Self {
            issuer,
            intermediates,
            roots_pem,
            roots,
            not_after: signer.leaf().not_after,
            config,
        })
    }

    /// The roots that workloads are to trust.
    pub fn roots(&self) -> &TrustBundle {
        &self.roots
    }

    /// The roots as PEM.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// The trust domain of all identities.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.config.trust_domain
    }

    /// Issues a certificate for `identity` to the key of a PEM encoded signing request.
    ///
    /// Its only name is the identity; what the request asks for is ignored. `ttl` is cut to the
    /// configured maximum and to the authority's own validity.
    ///
    /// # Errors
    /// [`IssueError`] when the request is broken, the identity is foreign, or signing fails.
    pub fn issue(
        &self,
        csr_pem: &str,
        identity: &SpiffeId,
        ttl: Option<Duration>,
    ) -> Result<IssuedCertificate, IssueError> {
        self.issue_with_names(csr_pem, identity, &[], ttl)
    }

    /// As [`CertificateAuthority::issue`], with DNS names besides the identity, for servers that
    /// are called by those who know nothing of SPIFFE.
    ///
    /// # Errors
    /// As there, and when a name can't stand in a certificate.
    pub fn issue_with_names(
        &self,
        csr_pem: &str,
        identity: &SpiffeId,
        dns: &[String],
        ttl: Option<Duration>,
    ) -> Result<IssuedCertificate, IssueError> {
        let key = csr::public_key(csr_pem)?;
        let mut names = vec![self.identity_name(identity)?];
        names.extend(dns_names(dns)?);
        let now = SystemTime::now();
        let not_after = self.not_after(now, ttl)?;
        let leaf = self.sign(&template::leaf(names, now, not_after), &key)?;
        let mut chain = vec![leaf.pem()];
        chain.extend(self.intermediates.iter().cloned());
        Ok(IssuedCertificate { chain, roots: self.roots_pem.clone(), not_after })
    }

    /// Issues a certificate with a new key for a server of the control plane.
    ///
    /// # Errors
    /// [`IssueError`] when a name can't stand in a certificate, or signing fails.
    pub fn issue_server(
        &self,
        names: &ServerNames,
        ttl: Option<Duration>,
    ) -> Result<ServerCertificate, IssueError> {
        let sign_error = |error: rcgen::Error| IssueError::Sign { reason: error.to_string() };
        let mut all = dns_names(&names.dns)?;
        all.extend(names.addresses.iter().copied().map(SanType::IpAddress));
        if let Some(id) = &names.spiffe_id {
            all.push(self.identity_name(id)?);
        }
        let now = SystemTime::now();
        let not_after = self.not_after(now, ttl)?;
        let key = KeyPair::generate().map_err(sign_error)?;
        let leaf = self.sign(&template::leaf(all, now, not_after), &key)?;
        let chain = leaf.pem() + &self.intermediates.concat();
        let credential = CertifiedChain::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes())
            .map_err(|error| IssueError::Sign { reason: error.to_string() })?;
        Ok(ServerCertificate { credential, not_after })
    }

    fn identity_name(&self, id: &SpiffeId) -> Result<SanType, IssueError> {
        if id.trust_domain() != self.config.trust_domain {
            return Err(IssueError::TrustDomain {
                id: id.clone(),
                trust_domain: self.config.trust_domain.to_string(),
            });
        }
        let name = id.as_str().try_into();
        name.map(SanType::URI)
            .map_err(|error: rcgen::Error| IssueError::Sign { reason: error.to_string() })
    }

    fn not_after(&self, now: SystemTime, ttl: Option<Duration>) -> Result<SystemTime, IssueError> {
        if self.not_after <= now {
            return Err(IssueError::AuthorityExpired);
        }
        let ttl = ttl.unwrap_or(self.config.default_ttl);
        Ok((now + ttl.min(self.config.max_ttl)).min(self.not_after))
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<rcgen::Certificate, IssueError> {
        params
            .signed_by(key, &self.issuer)
            .map_err(|error| IssueError::Sign { reason: error.to_string() })
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("config", &self.config)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn dns_names(names: &[String]) -> Result<Vec<SanType>, IssueError> {
    let one = |name: &String| match name.as_str().try_into() {
        Ok(name) => Ok(SanType::DnsName(name)),
        Err(error) => Err(IssueError::Sign { reason: rcgen::Error::to_string(&error) }),
    };
    names.iter().map(one).collect()
}

/// Both texts, or `None` when neither file is there.
fn read_pair(
    (certificate, key): &(PathBuf, PathBuf),
) -> Result<Option<(String, String)>, AuthorityError> {
    let incomplete = |present: &PathBuf, missing: &PathBuf| AuthorityError::Incomplete {
        present: present.clone(),
        missing: missing.clone(),
    };
    match (storage::read(certificate)?, storage::read(key)?) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(incomplete(certificate, key)),
        (None, Some(_)) => Err(incomplete(key, certificate)),
    }
}

fn make_root(
    config: &AuthorityConfig,
    (certificate, key): &(PathBuf, PathBuf),
) -> Result<(), AuthorityError> {
    let fail = |error: rcgen::Error| AuthorityError::Generate {
        what: "a root",
        reason: error.to_string(),
    };
    let pair = KeyPair::generate().map_err(fail)?;
    let name = format!("Weft root of {}", config.trust_domain);
    let root = template::root(&name, SystemTime::now()).self_signed(&pair).map_err(fail)?;
    storage::write(key, &pair.serialize_pem(), SECRET)?;
    storage::write(certificate, &root.pem(), PUBLIC)
}

/// The roots: `root-cert.pem`, or the signing certificate itself when that is missing and it is
/// self-signed.
fn read_roots(
    folder: &Path,
    certificate: &str,
    signer: &CertifiedChain,
) -> Result<(String, TrustBundle), AuthorityError> {
    let path = folder.join("root-cert.pem");
    let self_signed = signer.leaf().subject == signer.leaf().issuer;
    let text = match storage::read(&path)? {
        Some(text) => text,
        None if self_signed => certificate.to_owned(),
        None => {
            return Err(AuthorityError::Incomplete {
                present: folder.join("ca-cert.pem"),
                missing: path,
            });
        }
    };
    let bundle = TrustBundle::from_pem(text.as_bytes())
        .map_err(|source| AuthorityError::Certificate { path, source })?;
    Ok((text, bundle))
}

/// The certificates between a leaf and the roots: the signing certificate and those of
/// `cert-chain.pem`, without roots and repetitions.
fn intermediates(
    folder: &Path,
    signer: &CertifiedChain,
    roots: &TrustBundle,
) -> Result<Vec<String>, AuthorityError> {
    let path = folder.join("cert-chain.pem");
    let mut chain = signer.certificates().to_vec();
    if let Some(text) = storage::read(&path)? {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|error| AuthorityError::Content {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            if !chain.contains(&certificate) {
                chain.push(certificate);
            }
        }
    }
    chain.retain(|certificate| !roots.certificates().contains(certificate));
    let mut texts = Vec::new();
    for certificate in &chain {
        CertificateDetails::from_der(certificate).map_err(|error| AuthorityError::Certificate {
            path: path.clone(),
            source: SpecError::Certificate {
                what: "certificate chain",
                number: texts.len() + 1,
                reason: error.reason,
            },
        })?;
        texts.push(weft_tls::certificate_pem(certificate));
    }
    Ok(texts)
}
