//! The server's side: specification, configurations, handshake.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, NoClientAuth, NoServerSessionStorage, UnbufferedServerConnection};
use rustls::{CipherSuite, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::buffers::Inbox;
use crate::credential::CertifiedChain;
use crate::error::{SpecError, TlsError};
use crate::handshake::shake_hands;
use crate::provider::{TlsVersion, provider_with, versions};
use crate::resolver::CertificateByName;
use crate::stream::TlsStream;
use crate::usable_alpn;
use crate::validation::{PeerPolicy, PeerRole, ValidationSpec, compile};
use crate::verifier::ClientVerifier;

/// A TLS connection accepted by [`ServerTls::accept`].
pub type ServerStream<IO> = TlsStream<IO>;

/// What a TLS server is to do (Envoy's `DownstreamTlsContext`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTlsSpec {
    /// Certificates, chosen by server name: exact, then wildcard, else the first. At least one.
    pub certificates: Vec<CertifiedChain>,
    /// How clients' certificates are judged. `None`: they aren't.
    pub validation: Option<ValidationSpec>,
    /// Whether a client without a certificate is refused.
    pub require_client_certificate: bool,
    /// Application protocols, the preferred one first. `istio-peer-exchange` is left out unless
    /// [`Self::peer_exchange`] is set.
    pub alpn: Vec<Vec<u8>>,
    /// Whoever serves the connections writes and reads the prefaces of `istio-peer-exchange`.
    pub peer_exchange: bool,
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
            peer_exchange: false,
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
    with_alpn: Orders,
    without_alpn: Orders,
    policy: Option<Arc<PeerPolicy>>,
    verifies_clients: bool,
    uri_sans: Vec<String>,
}

/// A configuration by whose order of cipher suites decides.
struct Orders {
    /// Ours, as in Envoy: AES-128 with SHA-256 costs a handshake a fifth less than AES-256 with
    /// SHA-384, which many clients name first.
    ours: Arc<ServerConfig>,
    /// The client's, which lacks instructions for AES if it names ChaCha20 first.
    clients: Arc<ServerConfig>,
}

impl Orders {
    fn new(config: &ServerConfig) -> Self {
        let ordered = |ours| {
            let mut config = config.clone();
            config.ignore_client_order = ours;
            Arc::new(config)
        };
        Self { ours: ordered(true), clients: ordered(false) }
    }
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
        let policy = compile(spec.validation.as_ref())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(client_verifier(spec, policy.clone()))
            .with_cert_resolver(Arc::new(CertificateByName::new(&spec.certificates)));
        config.enable_secret_extraction = true;
        if spec.session_tickets {
            config.ticketer = Ticketer::new()?;
            // One session for each connection that may come next; rustls would send two.
            config.send_tls13_tickets = 1;
        } else {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        let without_alpn = Orders::new(&config);
        config.alpn_protocols = match spec.peer_exchange {
            true => spec.alpn.clone(),
            false => usable_alpn(&spec.alpn),
        };
        Ok(Self {
            with_alpn: Orders::new(&config),
            without_alpn,
            policy,
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

    /// The configuration for a client that offers these protocols and cipher suites.
    ///
    /// A server may not insist: where Envoy goes on without a protocol when none is in common,
    /// rustls would refuse the client, so such a client gets a configuration without ALPN.
    pub fn config_for<'a>(
        &self,
        mut offered: impl Iterator<Item = &'a [u8]>,
        suites: &[CipherSuite],
    ) -> &Arc<ServerConfig> {
        let ours = &self.with_alpn.ours.alpn_protocols;
        let common = offered.any(|protocol| ours.iter().any(|our| our == protocol));
        let orders = if common { &self.with_alpn } else { &self.without_alpn };
        if prefers_chacha(suites) { &orders.clients } else { &orders.ours }
    }

    /// Does the handshake. The caller sets the deadline.
    ///
    /// # Errors
    /// [`TlsError`] saying why the client was refused, or refused us.
    pub async fn accept<IO>(&self, io: IO) -> Result<ServerStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut io = io;
        let mut inbox = Inbox::default();
        let (config, server_name) = loop {
            let filled = inbox.filled().len();
            if poll_fn(|cx| inbox.poll_fill(&mut io, cx, filled + 1)).await? == 0 {
                return Err(TlsError::Closed);
            }
            match self.look(inbox.filled()) {
                Ok(Some(found)) => break found,
                Ok(None) => {}
                Err((error, alert)) => {
                    // The client is refused whether or not it hears of it.
                    let _ = io.write_all(&alert).await;
                    return Err(error.into());
                }
            }
        };
        let connection = UnbufferedServerConnection::new(config)?;
        let mut stream = shake_hands(io, connection, inbox, server_name).await?;
        // A resumed session brings a certificate that was judged when it began. After a full
        // handshake this finds what was just remembered.
        if let Some(policy) = &self.policy {
            stream.recheck(policy, None, PeerRole::Client).await?;
        }
        Ok(stream)
    }

    /// Finds the configuration for a client's first message, and the name that it asks for.
    fn look(&self, mut hello: &[u8]) -> Result<Option<Found>, (rustls::Error, Vec<u8>)> {
        let mut acceptor = Acceptor::default();
        while !hello.is_empty() {
            let failed = |error: std::io::Error| rustls::Error::General(error.to_string());
            acceptor.read_tls(&mut hello).map_err(|error| (failed(error), Vec::new()))?;
            let accepted = acceptor.accept().map_err(|(error, mut alert)| {
                let mut bytes = Vec::new();
                // Writing to memory can't fail.
                let _ = alert.write_all(&mut bytes);
                (error, bytes)
            })?;
            if let Some(accepted) = accepted {
                let hello = accepted.client_hello();
                let offered = hello.alpn().into_iter().flatten();
                let config = self.config_for(offered, hello.cipher_suites());
                let server_name = hello.server_name().map(str::to_owned);
                return Ok(Some((Arc::clone(config), server_name)));
            }
        }
        Ok(None)
    }
}

/// A configuration and the server name that was asked for.
type Found = (Arc<ServerConfig>, Option<String>);

/// Whether the first suite that is known, what some clients put there at random left out (RFC
/// 8701), is one of `ChaCha20`.
fn prefers_chacha(suites: &[CipherSuite]) -> bool {
    let first = suites.iter().find(|suite| !matches!(suite, CipherSuite::Unknown(_)));
    matches!(
        first,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
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

fn client_verifier(
    spec: &ServerTlsSpec,
    policy: Option<Arc<PeerPolicy>>,
) -> Arc<dyn ClientCertVerifier> {
    if policy.is_none() && !spec.require_client_certificate {
        return Arc::new(NoClientAuth);
    }
    Arc::new(ClientVerifier::new(policy, spec.require_client_certificate))
}
