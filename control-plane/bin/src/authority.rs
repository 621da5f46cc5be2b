//! The certificate authority, the tokens, and the control plane's own certificate.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tokio::sync::watch;
use weft_ca::{
    Authenticator, Authenticators, AuthorityConfig, CertificateAuthority, ClientCertificates,
    ServerNames, TokenIssuer,
};
use weft_kubernetes::TokenReviews;
use weft_spiffe::{SpiffeId, TrustDomain};
use weft_tls::{SanKind, SanMatcher, SanPattern, ServerTls, ServerTlsSpec, ValidationSpec};

use crate::cluster::Cluster;
use crate::config::Config;

/// The authority's folder within the data folder.
const FOLDER: &str = "ca";
/// How long the control plane's own certificate is valid.
const OWN_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);
/// How long to wait after a new certificate could not be made.
const PAUSE: Duration = Duration::from_secs(60);

/// The authority with all ways to prove an identity.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) certificates: Arc<CertificateAuthority>,
    pub(crate) authenticators: Authenticators,
    names: Vec<String>,
}

/// A token with which a workload proves its service account, from the data folder's issuer.
///
/// # Errors
/// The issuer's key can't be read or made.
pub fn issue_token(
    data_dir: &Path,
    namespace: &str,
    service_account: &str,
    ttl: Duration,
) -> Result<String> {
    let folder = data_dir.join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    // Said here, since a token of a name that no identity can have would be refused later.
    SpiffeId::workload(&TrustDomain::new("cluster.local")?, namespace, service_account)
        .context("namespace and service account must be able to stand in a SPIFFE id")?;
    Ok(TokenIssuer::open(&folder)?.issue(namespace, service_account, ttl)?)
}

impl Authority {
    /// Opens the authority that is given, or that in the data folder, or makes it there.
    pub(crate) fn open(
        config: &Config,
        trust_domain: &str,
        cluster: Option<&Cluster>,
    ) -> Result<Self> {
        let folder = config.data_dir.join(FOLDER);
        let given = config.authority_dir.as_ref();
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("can't make {}", folder.display()))?;
        let trust_domain = TrustDomain::new(trust_domain)?;
        let authority = AuthorityConfig::new(given.unwrap_or(&folder), trust_domain.clone());
        let certificates = Arc::new(CertificateAuthority::open(authority)?);
        let tokens = TokenIssuer::open(&folder)?.verifier(trust_domain.clone())?;
        let mut ways: Vec<Arc<dyn Authenticator>> = vec![
            Arc::new(ClientCertificates { trust_domain: trust_domain.clone() }),
            Arc::new(tokens),
        ];
        if let Some(cluster) = cluster.filter(|cluster| cluster.reviews_tokens()) {
            ways.push(Arc::new(TokenReviews::new(cluster.client.clone(), trust_domain)));
        }
        let authenticators = Authenticators::new(ways);
        Ok(Self { certificates, authenticators, names: config.xds.server_names.clone() })
    }

    /// The server's TLS, and the task's work that renews it in time.
    pub(crate) fn server_tls(
        &self,
    ) -> Result<(watch::Receiver<Arc<ServerTls>>, impl Future<Output = ()> + Send + 'static)> {
        let (tls, not_after) = self.build()?;
        let (sender, receiver) = watch::channel(Arc::new(tls));
        let this = self.clone();
        let renewal = async move {
            let mut wait = half_of(not_after);
            loop {
                tokio::time::sleep(wait).await;
                match this.build() {
                    Ok((tls, not_after)) => {
                        sender.send_replace(Arc::new(tls));
                        wait = half_of(not_after);
                    }
                    Err(error) => {
                        tracing::error!(%error, "can't renew the server's certificate");
                        wait = PAUSE;
                    }
                }
            }
        };
        Ok((receiver, renewal))
    }

    fn build(&self) -> Result<(ServerTls, SystemTime)> {
        let trust_domain = self.certificates.trust_domain();
        let names = ServerNames {
            dns: self.names.clone(),
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            spiffe_id: Some(SpiffeId::workload(trust_domain, "weft-system", "weft-control-plane")?),
        };
        let issued = self.certificates.issue_server(&names, Some(OWN_CERTIFICATE))?;
        let own_workloads = SanMatcher {
            kind: SanKind::Uri,
            pattern: SanPattern::Prefix(format!("spiffe://{trust_domain}/")),
            ignore_case: false,
        };
        let mut spec = ServerTlsSpec::new(vec![issued.credential]);
        // A certificate is welcome, a token will do.
        let roots = self.certificates.roots().clone();
        spec.validation = Some(ValidationSpec::new(roots, vec![own_workloads]));
        spec.alpn = vec![b"h2".to_vec()];
        Ok((ServerTls::new(&spec)?, issued.not_after))
    }
}

fn half_of(not_after: SystemTime) -> Duration {
    let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
    (left / 2).max(Duration::from_secs(1))
}
