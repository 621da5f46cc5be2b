//! The client's side: specification, configurations, handshake.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffers::Inbox;
use crate::credential::CertifiedChain;
use crate::error::{SpecError, TlsError};
use crate::handshake::shake_hands;
use crate::provider::{TlsVersion, provider_with, versions};
use crate::stream::TlsStream;
use crate::usable_alpn;
use crate::validation::{PeerPolicy, PeerRole, ValidationSpec, compile};
use crate::verifier::ServerVerifier;

/// A TLS connection made by [`ClientTls::connect`].
pub type ClientStream<IO> = TlsStream<IO>;

/// Server names whose sessions are remembered for resumption, for each [`ClientTls`].
const REMEMBERED_SERVERS: usize = 256;
/// Sessions that rustls counts for each of them.
const SESSIONS_A_SERVER: usize = 8;
/// Protocol lists, besides the configured one, for which a configuration is kept.
const KEPT_ALPN_OVERRIDES: usize = 16;

/// What a TLS client is to do (Envoy's `UpstreamTlsContext`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTlsSpec {
    /// The certificate that is shown when the server asks for one.
    pub certificate: Option<CertifiedChain>,
    /// How the server's certificate is judged. `None`: it isn't, as in Envoy.
    pub validation: Option<ValidationSpec>,
    /// Application protocols that are offered. `istio-peer-exchange` is left out.
    pub alpn: Vec<Vec<u8>>,
    /// The server name that is sent. `None`: none, unless a connection brings its own.
    pub sni: Option<String>,
    /// Whether the server name must be one of the certificate's names
    /// (`auto_sni_san_validation`).
    pub match_server_name: bool,
    /// Lowest protocol version; TLS 1.2 if absent.
    pub min_version: Option<TlsVersion>,
    /// Highest protocol version; TLS 1.3 if absent.
    pub max_version: Option<TlsVersion>,
    /// TLS 1.2 cipher suites by their OpenSSL names; unknown ones are ignored. `None`: all.
    pub cipher_suites: Option<Vec<String>>,
    /// Whether sessions are remembered and resumed.
    pub session_resumption: bool,
}

impl Default for ClientTlsSpec {
    fn default() -> Self {
        Self {
            certificate: None,
            validation: None,
            alpn: Vec::new(),
            sni: None,
            match_server_name: false,
            min_version: None,
            max_version: None,
            cipher_suites: None,
            session_resumption: true,
        }
    }
}

/// A protocol list and the configuration that offers it.
type Override = (Vec<Vec<u8>>, Arc<ClientConfig>);

/// A built TLS client: configurations and remembered sessions. Share it behind an `Arc`; a new one
/// is built for each change, so that nothing verified under old rules is resumed.
pub struct ClientTls {
    config: Arc<ClientConfig>,
    policy: Option<Arc<PeerPolicy>>,
    match_server_name: bool,
    server_name: ServerName<'static>,
    /// Configurations for other protocol lists; they share verifier, key and sessions.
    overrides: RwLock<Vec<Override>>,
}

impl ClientTls {
    /// Builds the configuration.
    ///
    /// # Errors
    /// [`SpecError`] naming the part of the specification that can't be built.
    pub fn new(spec: &ClientTlsSpec) -> Result<Self, SpecError> {
        let provider = provider_with(spec.cipher_suites.as_deref(), spec.max_version)?;
        let versions = versions(spec.min_version, spec.max_version)?;
        let policy = compile(spec.validation.as_ref())?;
        let verifier =
            ServerVerifier { policy: policy.clone(), match_server_name: spec.match_server_name };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &spec.certificate {
            Some(chain) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
                Arc::clone(chain.key()),
            ))),
            None => builder.with_no_client_auth(),
        };
        config.enable_secret_extraction = true;
        config.alpn_protocols = usable_alpn(&spec.alpn);
        config.resumption = match spec.session_resumption {
            true => Resumption::in_memory_sessions(REMEMBERED_SERVERS * SESSIONS_A_SERVER),
            false => Resumption::disabled(),
        };
        Ok(Self {
            config: Arc::new(config),
            policy,
            match_server_name: spec.match_server_name,
            server_name: configured_name(spec.sni.as_deref())?,
            overrides: RwLock::new(Vec::new()),
        })
    }

    /// Does the handshake. The caller sets the deadline.
    ///
    /// `sni` and `alpn` replace what is configured for this connection only; an IP address as `sni`
    /// is not sent (RFC 6066) but counts as server name. No selected protocol is not an error. Who
    /// names `istio-peer-exchange` in `alpn` owes the server its preface if it is selected.
    ///
    /// With TLS 1.3 the handshake ends before the server has judged our certificate: its refusal
    /// comes with the first read, as [`TlsError::Refused`].
    ///
    /// # Errors
    /// [`TlsError`] saying why the server was refused, or refused us.
    pub async fn connect<IO>(
        &self,
        io: IO,
        sni: Option<&str>,
        alpn: Option<&[Vec<u8>]>,
    ) -> Result<ClientStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let server_name = match sni {
            Some(name) => ServerName::try_from(name)
                .map_err(|_| TlsError::ServerName(name.to_owned()))?
                .to_owned(),
            None => self.server_name.clone(),
        };
        let config = match alpn {
            Some(protocols) => self.config_with(protocols),
            None => Arc::clone(&self.config),
        };
        let wanted = self.match_server_name.then(|| server_name.clone());
        let connection = UnbufferedClientConnection::new(config, server_name)?;
        let mut stream = shake_hands(io, connection, Inbox::default(), None).await?;
        // rustls judges no certificate again when it resumes.
        if let Some(policy) = self.policy.as_ref().filter(|_| stream.handshake().resumed) {
            stream.recheck(policy, wanted.as_ref(), PeerRole::Server).await?;
        }
        Ok(stream)
    }

    fn config_with(&self, protocols: &[Vec<u8>]) -> Arc<ClientConfig> {
        if self.config.alpn_protocols == protocols {
            return Arc::clone(&self.config);
        }
        let known = |overrides: &Vec<Override>| {
            let mut overrides = overrides.iter();
            let found = overrides.find(|(list, _)| list == protocols);
            found.map(|(_, config)| Arc::clone(config))
        };
        if let Some(config) = known(&self.overrides.read()) {
            return config;
        }
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.to_vec();
        let config = Arc::new(config);
        let mut overrides = self.overrides.write();
        if overrides.len() < KEPT_ALPN_OVERRIDES {
            overrides.push((protocols.to_vec(), Arc::clone(&config)));
        }
        config
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// rustls wants a name for every connection but never sends an address: the unspecified address
/// stands for "no name".
fn configured_name(sni: Option<&str>) -> Result<ServerName<'static>, SpecError> {
    match sni {
        None | Some("") => Ok(ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED))),
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| SpecError::ServerName { name: name.to_owned() }),
    }
}
