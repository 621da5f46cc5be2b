//! The webhook's certificate: from the mesh's authority, or from files.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::watch;
use weft_cert_agent::{Agent, AgentConfig, FilesConfig, WorkloadCertificates};
use weft_spiffe::{SpiffeId, TrustDomain};
use weft_tls::{ServerTls, ServerTlsSpec};

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// The control plane's authority, which knows the names of this identity.
    Authority {
        /// Its address, `host:port`.
        address: String,
        /// The name in its certificate.
        server_name: String,
        /// PEM file with the roots that vouch for it.
        roots: PathBuf,
        /// File with the service account's token.
        token: PathBuf,
        /// The mesh's trust domain.
        trust_domain: String,
        /// The webhook's own namespace.
        namespace: String,
        /// Its service account.
        service_account: String,
    },
    /// Files that somebody else renews.
    Files {
        /// PEM file with the chain, leaf first.
        chain: PathBuf,
        /// PEM file with the key.
        key: PathBuf,
        /// PEM file with the roots.
        roots: PathBuf,
    },
}

/// Waits for the first certificate; later ones replace it without a connection being dropped. The
/// agent works for as long as it is kept.
///
/// # Errors
/// Names that can't be, or a first certificate of no use.
pub async fn server_tls(
    source: &CertificateSource,
) -> Result<(watch::Receiver<Arc<ServerTls>>, Agent)> {
    let agent = spawn(source)?;
    let mut certificates = agent.certificates();
    let mut failure = agent.failure();
    let first = loop {
        let current = certificates.borrow_and_update().clone();
        if let Some(first) = current {
            break first;
        }
        tokio::select! {
            changed = certificates.changed() => changed.context("the certificate agent ended")?,
            Ok(()) = failure.changed() => {
                if let Some(failure) = failure.borrow_and_update().clone() {
                    tracing::warn!(%failure, "no certificate yet");
                }
            }
        }
    };
    let (sender, receiver) = watch::channel(Arc::new(compile(&first)?));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                // Nobody serves any more.
                () = sender.closed() => return,
                changed = certificates.changed() => if changed.is_err() { return },
            }
            let current = certificates.borrow_and_update().clone();
            match current.as_deref().map(compile) {
                Some(Ok(tls)) => {
                    tracing::info!("new certificate");
                    sender.send_replace(Arc::new(tls));
                }
                Some(Err(error)) => tracing::error!(%error, "the new certificate is of no use"),
                None => {}
            }
        }
    });
    Ok((receiver, agent))
}

fn spawn(source: &CertificateSource) -> Result<Agent> {
    match source {
        CertificateSource::Files { chain, key, roots } => {
            Ok(Agent::watch_files(FilesConfig::new(chain, key, roots)))
        }
        CertificateSource::Authority {
            address,
            server_name,
            roots,
            token,
            trust_domain,
            namespace,
            service_account,
        } => {
            let domain = TrustDomain::new(trust_domain).context("the trust domain")?;
            let identity = SpiffeId::workload(&domain, namespace, service_account)
                .context("namespace and service account")?;
            let mut config = AgentConfig::new(address, server_name, roots, identity);
            config.token = Some(token.clone());
            Ok(Agent::spawn(config))
        }
    }
}

fn compile(certificates: &WorkloadCertificates) -> Result<ServerTls> {
    let mut spec = ServerTlsSpec::new(vec![certificates.credential().clone()]);
    spec.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(ServerTls::new(&spec)?)
}
