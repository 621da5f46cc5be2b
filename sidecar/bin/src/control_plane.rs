//! The way to the control plane: through a cluster of the bootstrap file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use tokio::net::{TcpStream, UnixStream};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use weft_config::AdsSettings;
use weft_model::{ClusterHandle, Discovery, Endpoint, EndpointAddress, SnapshotWatch};
use weft_xds_client::{BoxedIo, Transport, TransportError};

/// Connects to the endpoints of a cluster in turn.
pub(crate) struct ClusterTransport {
    snapshot: SnapshotWatch,
    settings: AdsSettings,
    authority: Uri,
    /// Read anew for each stream: tokens are renewed on disk.
    token_file: Option<PathBuf>,
    next: AtomicUsize,
}

impl ClusterTransport {
    /// A transport through the cluster that `settings` names.
    pub(crate) fn new(
        snapshot: SnapshotWatch,
        settings: AdsSettings,
        token_file: Option<PathBuf>,
    ) -> Self {
        let named = settings.authority.clone().and_then(|authority| uri(&authority));
        let host = || {
            let snapshot = snapshot.borrow();
            snapshot
                .clusters
                .get(settings.cluster.as_str())
                .and_then(|cluster| uri(&host_of(cluster)))
        };
        let authority = named.or_else(host).or_else(|| uri(&settings.cluster)).unwrap_or_default();
        Self { snapshot, settings, authority, token_file, next: AtomicUsize::new(0) }
    }

    /// Waits until the cluster is warm: its own certificates may still be on their way.
    async fn cluster(&self) -> Result<Arc<ClusterHandle>, TransportError> {
        let name = self.settings.cluster.as_str();
        let mut snapshot = self.snapshot.clone();
        let warm = snapshot.wait_for(|snapshot| snapshot.clusters.contains_key(name)).await;
        let found = warm.ok().and_then(|snapshot| snapshot.clusters.get(name).cloned());
        found.ok_or_else(|| self.unreachable("the proxy is ending"))
    }

    fn unreachable(&self, why: &'static str) -> TransportError {
        TransportError::Connect {
            target: format!("cluster {}", self.settings.cluster),
            source: std::io::Error::other(why),
        }
    }

    fn endpoint(&self, cluster: &ClusterHandle) -> Result<Arc<Endpoint>, TransportError> {
        let endpoints = cluster.endpoints();
        let all: Vec<_> = endpoints.iter().collect();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let chosen = all.get(turn.checked_rem(all.len()).unwrap_or(0));
        chosen
            .map(|endpoint| Arc::clone(endpoint))
            .ok_or_else(|| self.unreachable("it has no endpoint yet"))
    }

    async fn open(&self) -> Result<BoxedIo, TransportError> {
        let cluster = self.cluster().await?;
        let endpoint = self.endpoint(&cluster)?;
        let target = format!("cluster {} at {}", cluster.name(), Shown(&endpoint.address));
        let failed = |source| TransportError::Connect { target: target.clone(), source };
        let io: BoxedIo = match &endpoint.address {
            EndpointAddress::Socket(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Box::new(stream)
            }
            EndpointAddress::Pipe(path) => {
                Box::new(UnixStream::connect(path).await.map_err(failed)?)
            }
        };
        let tls = match cluster.config().socket(endpoint.transport).tls() {
            None => return Ok(io),
            Some(slot) => slot.get(),
        };
        let refused = |reason: String| TransportError::Tls { target: target.clone(), reason };
        let tls = tls.ok_or_else(|| refused("its secrets are not there".to_owned()))?;
        let stream = tls.connect(io, None, None).await;
        Ok(Box::new(stream.map_err(|error| refused(error.to_string()))?))
    }

    fn credentials(&self, metadata: &mut MetadataMap) -> Result<(), TransportError> {
        let Some(path) = &self.token_file else { return Ok(()) };
        // A workload that has a certificate needs no token: one that is gone is not an error.
        let Ok(token) = std::fs::read_to_string(path) else { return Ok(()) };
        let value: Result<AsciiMetadataValue, _> = format!("Bearer {}", token.trim()).parse();
        let wrong = || TransportError::Credentials(format!("{}: not a token", path.display()));
        metadata.insert("authorization", value.map_err(|_| wrong())?);
        Ok(())
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
        for (name, value) in &self.settings.metadata {
            let key = AsciiMetadataKey::from_bytes(name.as_bytes());
            let wrong =
                || TransportError::Credentials(format!("initial_metadata {name:?}: not a header"));
            let value: AsciiMetadataValue = value.parse().map_err(|_| wrong())?;
            metadata.insert(key.map_err(|_| wrong())?, value);
        }
        self.credentials(&mut metadata)?;
        Ok(metadata)
    }
}

fn uri(authority: &str) -> Option<Uri> {
    Uri::builder().scheme("http").authority(authority).path_and_query("/").build().ok()
}

/// The host name of the first endpoint, or its address.
fn host_of(cluster: &ClusterHandle) -> String {
    if let Discovery::StrictDns(dns) | Discovery::LogicalDns(dns) = &cluster.config().discovery
        && let Some(host) = dns.hosts.first()
    {
        return format!("{}:{}", host.name, host.port);
    }
    let endpoints = cluster.endpoints();
    match endpoints.iter().next().map(|endpoint| &endpoint.address) {
        Some(EndpointAddress::Socket(address)) => address.to_string(),
        Some(EndpointAddress::Pipe(_)) | None => "localhost".to_owned(),
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
