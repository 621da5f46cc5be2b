//! mTLS connections that are made, used once and closed.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::http1::{exchange, request};
use super::{Outcome, Part, Window, collect};
use crate::certificates::Certificates;

/// Whether a connection takes up the session of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sessions {
    New,
    Resumed,
}

/// The configurations of so many clients; each remembers sessions of its own.
pub(crate) fn clients(
    certificates: &Certificates,
    sessions: Sessions,
    count: usize,
) -> Result<Vec<Arc<ClientConfig>>> {
    (0..count).map(|_| config(certificates, sessions).map(Arc::new)).collect()
}

fn config(certificates: &Certificates, sessions: Sessions) -> Result<ClientConfig> {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(&certificates.root)?)?)?;
    let chain = CertificateDer::from_pem_slice(&fs::read(&certificates.chain)?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(&certificates.key)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![chain], key)?;
    config.resumption = match sessions {
        Sessions::New => Resumption::disabled(),
        Sessions::Resumed => Resumption::in_memory_sessions(16),
    };
    Ok(config)
}

/// Runs a loop for each client: connect, ask once, close.
pub(crate) async fn connections(
    address: SocketAddr,
    clients: Vec<Arc<ClientConfig>>,
    window: Window,
) -> Result<Outcome> {
    let mut tasks = JoinSet::new();
    for config in clients {
        tasks.spawn(client(address, TlsConnector::from(config), window));
    }
    collect(tasks, window).await
}

async fn client(address: SocketAddr, connector: TlsConnector, window: Window) -> Result<Part> {
    let name = ServerName::try_from("bench")?;
    let request = request(address, "/hello");
    let mut buffer = vec![0; 8 << 10];
    let mut part = Part::default();
    loop {
        let start = Instant::now();
        if start >= window.until {
            return Ok(part);
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut stream = connector.connect(name.clone(), stream).await.context("the handshake")?;
        exchange(&mut stream, &request, &mut buffer).await?;
        let units = part.units;
        part.record(start, window);
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        part.resumed += (part.units - units) * u64::from(resumed);
    }
}
