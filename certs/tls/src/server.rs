//! The server's side: specification, configurations, handshake.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{Acceptor, NoClientAuth, NoServerSessionStorage, danger::ClientCertVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use crate::credential::CertifiedChain;
use crate::error::{SpecError, TlsError};
use crate::provider::{TlsVersion, provider_with, versions};
use crate::resolver::CertificateByName;
use crate::usable_alpn;
use crate::validation::{PeerPolicy, ValidationSpec};
use crate::verifier::ClientVerifier;

/// A TLS connection accepted by [`ServerTls::accept`].
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// What a TLS server is to do (Envoy's `DownstreamTlsContext`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsSpec {
    /// Certificates, chosen by server name: exact, then wildcard, else the first. At least one.
    pub certificates: Vec<CertifiedChain>,
    /// How clients' certificates are judged. `None`: they aren't.
    pub validation: Option<ValidationSpec>,
    /// Whether a client without a certificate is refused.
    pub require_client_certificate: bool,
    /// Application protocols, the preferred one first. `istio-peer-exchange` is left out.
    pub alpn: Vec<Vec<u8>>,
    /// Lowest protocol version; TLS 1.2 if absent.
    pub min_version: Option<TlsVersion>,
    /// Highest protocol version; TLS 1.3 if absent.
    pub max_version: Option<TlsVersion>,
    /// TLS 1.2 cipher suites by their OpenSSL names; unknown ones are ignored. `None`: all.
    pub cipher_suites: Option<Vec<String>>,
    /// Whether clients may resume sessions.
    pub session_tickets: bool,
}

impl ServerTlsSpec {
    /// A server with some certificates that asks clients for none.
    pub fn new(certificates: Vec<CertifiedChain>) -> Self {
        Self {
            certificates,
            validation: None,
            require_client_certificate: false,
            alpn: Vec::new(),
            min_version: None,
            max_version: None,
            cipher_suites: None,
            session_tickets: true,
        }
    }
}

/// A built TLS server: configurations, ticket keys and session cache. Share it behind an `Arc`; a
/// new one is built for each change, and forgets the sessions of the old.
pub struct ServerTls {
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
    verifies_clients: bool,
    uri_sans: Vec<String>,
}

impl ServerTls {
    /// Builds the configurations.
    ///
    /// # Errors
    /// [`SpecError`] naming the part of the specification that can't be built.
    pub fn new(spec: &ServerTlsSpec) -> Result<Self, SpecError> {
        if spec.certificates.is_empty() {
            return Err(SpecError::NoServerCertificate);
        }
        let provider = provider_with(spec.cipher_suites.as_deref(), spec.max_version)?;
        let versions = versions(spec.min_version, spec.max_version)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(client_verifier(spec)?)
            .with_cert_resolver(Arc::new(CertificateByName::new(&spec.certificates)));
        if spec.session_tickets {
            config.ticketer = Ticketer::new()?;
        } else {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = usable_alpn(&spec.alpn);
        Ok(Self {
            with_alpn: Arc::new(config),
            without_alpn,
            verifies_clients: spec.validation.as_ref().is_some_and(ValidationSpec::verifies),
            uri_sans: first_uri_sans(&spec.certificates),
        })
    }

    /// Whether a certificate that a client shows proves anything: somebody had to vouch for it.
    pub fn verifies_clients(&self) -> bool {
        self.verifies_clients
    }

    /// URI SANs of the certificate that is shown when no server name chooses another: in a mesh,
    /// the workload's identity.
    pub fn uri_sans(&self) -> &[String] {
        &self.uri_sans
    }

    /// The configuration for a client that offers these protocols.
    ///
    /// A server may not insist: where Envoy goes on without a protocol when none is in common,
    /// rustls would refuse the client, so such a client gets a configuration without ALPN.
    pub fn config_for<'a>(
        &self,
        mut offered: impl Iterator<Item = &'a [u8]>,
    ) -> &Arc<ServerConfig> {
        let ours = &self.with_alpn.alpn_protocols;
        if offered.any(|protocol| ours.iter().any(|our| our == protocol)) {
            &self.with_alpn
        } else {
            &self.without_alpn
        }
    }

    /// Does the handshake. The caller sets the deadline.
    ///
    /// # Errors
    /// [`TlsError`] saying why the client was refused, or refused us.
    pub async fn accept<IO>(&self, io: IO) -> Result<ServerStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        let config = {
            let hello = start.client_hello();
            self.config_for(hello.alpn().into_iter().flatten())
        };
        Ok(start.into_stream(Arc::clone(config)).await?)
    }
}

fn first_uri_sans(certificates: &[CertifiedChain]) -> Vec<String> {
    let first = certificates.first().into_iter();
    first.flat_map(|chain| chain.leaf().uris()).map(str::to_owned).collect()
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

fn client_verifier(spec: &ServerTlsSpec) -> Result<Arc<dyn ClientCertVerifier>, SpecError> {
    if spec.validation.is_none() && !spec.require_client_certificate {
        return Ok(Arc::new(NoClientAuth));
    }
    let policy = spec.validation.as_ref().map(PeerPolicy::compile).transpose()?;
    Ok(Arc::new(ClientVerifier::new(policy, spec.require_client_certificate)))
}
