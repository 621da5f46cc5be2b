//! The way to the control plane: through a cluster of the bootstrap file.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use weft_model::{ClusterHandle, Discovery, Endpoint, EndpointAddress, UpstreamSocket};
use weft_xds_client::{BoxedIo, Transport, TransportError};

/// Connects to the endpoints of a cluster in turn.
pub(crate) struct ClusterTransport {
    cluster: Arc<ClusterHandle>,
    authority: Uri,
    /// Read anew for each stream: tokens are renewed on disk.
    token_file: Option<PathBuf>,
    next: std::sync::atomic::AtomicUsize,
}

impl ClusterTransport {
    /// A transport through `cluster`, which has to be known without a control plane.
    ///
    /// # Errors
    /// The cluster's endpoints come from the control plane itself.
    pub(crate) fn new(cluster: Arc<ClusterHandle>, authority: Option<&str>, token_file: Option<PathBuf>) -> Result<Self> {
        let name = Arc::clone(cluster.name());
        if matches!(cluster.config().discovery, Discovery::Eds(_) | Discovery::OriginalDst { .. }) {
            bail!("cluster {name:?} leads to the control plane: its type must be STATIC, STRICT_DNS or LOGICAL_DNS");
        }
        let host = authority.map_or_else(|| host_of(&cluster), str::to_owned);
        let uri = Uri::builder().scheme("http").authority(host.as_str()).path_and_query("/");
        let Ok(authority) = uri.build() else { bail!("cluster {name:?}: {host:?} is not an authority") };
        Ok(Self { cluster, authority, token_file, next: std::sync::atomic::AtomicUsize::new(0) })
    }

    fn endpoint(&self) -> Result<Arc<Endpoint>, TransportError> {
        let endpoints = self.cluster.endpoints();
        let all: Vec<_> = endpoints.iter().collect();
        let turn = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let chosen = all.get(turn.checked_rem(all.len()).unwrap_or(0));
        chosen.map(|endpoint| Arc::clone(endpoint)).ok_or_else(|| TransportError::Connect {
            target: format!("cluster {}", self.cluster.name()),
            source: std::io::Error::other("it has no endpoint yet"),
        })
    }

    async fn open(&self) -> Result<BoxedIo, TransportError> {
        let endpoint = self.endpoint()?;
        let target = format!("cluster {} at {}", self.cluster.name(), Shown(&endpoint.address));
        let failed = |source| TransportError::Connect { target: target.clone(), source };
        let io: BoxedIo = match &endpoint.address {
            EndpointAddress::Socket(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(stream)
            }
            EndpointAddress::Pipe(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        };
        let config = self.cluster.config();
        match config.socket(endpoint.transport) {
            UpstreamSocket::Raw => Ok(io),
            UpstreamSocket::Tls(slot) => {
                let refused = |reason: String| TransportError::Tls { target: target.clone(), reason };
                let tls = slot.get().ok_or_else(|| refused("its secrets are not there".to_owned()))?;
                let stream = tls.connect(io, None, None).await.map_err(|error| refused(error.to_string()))?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Transport for ClusterTransport {
    fn connect(&self) -> BoxFuture<'_, Result<BoxedIo, TransportError>> {
        self.open().boxed()
    }

    fn authority(&self) -> Uri {
        self.authority.clone()
    }

    fn metadata(&self) -> Result<MetadataMap, TransportError> {
        let mut metadata = MetadataMap::new();
        let Some(path) = &self.token_file else { return Ok(metadata) };
        // A workload that has a certificate needs no token: one that is gone is not an error.
        let Ok(token) = std::fs::read_to_string(path) else { return Ok(metadata) };
        let value: Result<AsciiMetadataValue, _> = format!("Bearer {}", token.trim()).parse();
        let value = value.map_err(|_| {
            TransportError::Credentials(format!("{}: not a token", path.display()))
        })?;
        metadata.insert("authorization", value);
        Ok(metadata)
    }
}

/// The host name of the first endpoint, or its address.
fn host_of(cluster: &ClusterHandle) -> String {
    let config = cluster.config();
    if let Discovery::StrictDns(dns) | Discovery::LogicalDns(dns) = &config.discovery
        && let Some(host) = dns.hosts.first()
    {
        return format!("{}:{}", host.name, host.port);
    }
    let endpoints = cluster.endpoints();
    match endpoints.iter().next().map(|endpoint| &endpoint.address) {
        Some(EndpointAddress::Socket(address)) => address.to_string(),
        Some(EndpointAddress::Pipe(_)) | None => cluster.name().to_string(),
    }
}

struct Shown<'a>(&'a EndpointAddress);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            EndpointAddress::Socket(address) => address.fmt(f),
            EndpointAddress::Pipe(path) => path.display().fmt(f),
        }
    }
}
