//! The application's probes, made from inside the pod.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

mod trust;

/// The address whose connections to the application are not intercepted, as Istio's rules have it.
const SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));
/// As long as Kubernetes waits when a probe doesn't say.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A body's beginning is enough for the kubelet's log.
const BODY_LIMIT: usize = 10 << 10;

/// A probe; the JSON is that of Istio's `ISTIO_KUBE_APP_PROBERS`, with ports as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    #[serde(flatten)]
    action: Action,
    /// Seconds.
    timeout_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    HttpGet(HttpGet),
    TcpSocket {
        port: u16,
    },
    Grpc {
        port: u16,
        #[serde(default)]
        service: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    port: u16,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    scheme: Option<String>,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Header {
    name: String,
    #[serde(default)]
    value: String,
}

/// A probe that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The application can't be reached.
    #[error("{0}")]
    Connect(#[from] io::Error),
    /// It speaks no HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The probe can't be made.
    #[error("{0}")]
    Request(String),
    /// It took too long.
    #[error("no answer after {0:?}")]
    Timeout(Duration),
    /// `grpc.health.v1` says that it doesn't serve.
    #[error("grpc.health.v1.Health/Check: {0}")]
    NotServing(String),
}

/// Makes probes.
#[derive(Debug, Clone)]
pub struct Prober {
    address: IpAddr,
    tls: Arc<ClientConfig>,
}

impl Prober {
    /// Calls the application at this address, the pod's.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self { address, tls: trust::config() }
    }

    /// Makes a probe: the status and the beginning of the body to answer with.
    ///
    /// # Errors
    /// [`ProbeError`]
    pub async fn probe(
        &self,
        probe: &Probe,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, Bytes), ProbeError> {
        let timeout = probe.timeout_seconds.filter(|seconds| *seconds > 0);
        let timeout = timeout.map_or(TIMEOUT, Duration::from_secs);
        let work = async {
            match &probe.action {
                Action::TcpSocket { port } => {
                    self.connect(*port).await?;
                    Ok((StatusCode::OK, Bytes::new()))
                }
                Action::HttpGet(get) => self.get(get, headers).await,
                Action::Grpc { port, service } => {
                    self.check(*port, service.as_deref().unwrap_or_default()).await
                }
            }
        };
        tokio::time::timeout(timeout, work).await.unwrap_or(Err(ProbeError::Timeout(timeout)))
    }

    /// Fetches a page of the application's over HTTP.
    pub(crate) async fn fetch(
        &self,
        port: u16,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ProbeError> {
        let get = HttpGet { port, path: Some(path.to_owned()), scheme: None, http_headers: vec![] };
        let request = self.request(&get, &HeaderMap::new())?;
        let stream = self.connect(port).await?;
        exchange(stream, request, 16 << 20).await
    }

    async fn get(
        &self,
        get: &HttpGet,
        headers: &HeaderMap,
    ) -> Result<(StatusCode, Bytes), ProbeError> {
        let request = self.request(get, headers)?;
        let stream = self.connect(get.port).await?;
        if get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            let name = ServerName::IpAddress(self.address.into());
            let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
            return exchange(stream, request, BODY_LIMIT).await;
        }
        exchange(stream, request, BODY_LIMIT).await
    }

    fn request(
        &self,
        get: &HttpGet,
        headers: &HeaderMap,
    ) -> Result<Request<Full<Bytes>>, ProbeError> {
        let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let invalid = |error: &dyn std::fmt::Display| ProbeError::Request(error.to_string());
        let mut request = Request::get(format!("{slash}{path}"))
            .body(Full::default())
            .map_err(|error| invalid(&error))?;
        let all = request.headers_mut();
        if let Some(agent) = headers.get(hyper::header::USER_AGENT) {
            all.insert(hyper::header::USER_AGENT, agent.clone());
        }
        let host = SocketAddr::new(self.address, get.port).to_string();
        all.insert(HOST, HeaderValue::from_str(&host).map_err(|error| invalid(&error))?);
        for Header { name, value } in &get.http_headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(&error))?;
            let value = HeaderValue::from_str(value).map_err(|error| invalid(&error))?;
            all.insert(name, value);
        }
        Ok(request)
    }

    /// `grpc.health.v1.Health/Check`, whose two messages have one field each.
    async fn check(&self, port: u16, service: &str) -> Result<(StatusCode, Bytes), ProbeError> {
        let authority = SocketAddr::new(self.address, port);
        let invalid = |error: hyper::http::Error| ProbeError::Request(error.to_string());
        let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(health_request(service)?))
            .map_err(invalid)?;
        let stream = TokioIo::new(self.connect(port).await?);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        let answered = async {
            let response = sender.send_request(request).await?;
            let early = response.headers().get("grpc-status").cloned();
            let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
            let body = body.map_err(|error| ProbeError::Request(error.to_string()))?;
            let status = body.trailers().and_then(|all| all.get("grpc-status")).cloned().or(early);
            Ok::<_, ProbeError>((status, body.to_bytes()))
        };
        let (status, body) = tokio::select! {
            answered = answered => answered?,
            ended = connection => {
                ended?;
                return Err(ProbeError::NotServing("the connection was closed".to_owned()));
            }
        };
        match status.as_ref().and_then(|status| status.to_str().ok()) {
            Some("0") if serving(&body) => Ok((StatusCode::OK, Bytes::new())),
            Some("0") => Err(ProbeError::NotServing("it is not serving".to_owned())),
            other => Err(ProbeError::NotServing(format!("status {}", other.unwrap_or("missing")))),
        }
    }

    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let (socket, source) = match self.address {
            IpAddr::V4(_) => (TcpSocket::new_v4()?, SOURCE_V4),
            IpAddr::V6(_) => (TcpSocket::new_v6()?, SOURCE_V6),
        };
        // Where the interception's address is not there, nothing is intercepted.
        if let Err(error) = socket.bind(SocketAddr::new(source, 0)) {
            tracing::debug!(%error, %source, "can't bind the source of probes");
        }
        socket.connect(SocketAddr::new(self.address, port)).await
    }
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<(StatusCode, Bytes), ProbeError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut beginning = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            beginning.extend_from_slice(&data[..data.len().min(limit - beginning.len())]);
            if beginning.len() == limit {
                break;
            }
        }
        Ok((status, Bytes::from(beginning)))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answered = std::pin::pin!(answered);
    let mut ended = false;
    loop {
        tokio::select! {
            // What has come is read before the connection's end counts.
            biased;
            result = &mut answered => return result,
            _ = &mut connection, if !ended => ended = true,
        }
    }
}

fn health_request(service: &str) -> Result<Bytes, ProbeError> {
    let length = u8::try_from(service.len()).ok().filter(|length| *length < 0x80);
    let length =
        length.ok_or_else(|| ProbeError::Request("the service's name is long".to_owned()))?;
    let message: Vec<u8> = match length {
        0 => Vec::new(),
        _ => [&[0x0a, length], service.as_bytes()].concat(),
    };
    let size = u32::try_from(message.len()).unwrap_or_default();
    Ok([&[0], &size.to_be_bytes()[..], &message].concat().into())
}

/// `status: SERVING`
fn serving(body: &[u8]) -> bool {
    body.get(5..).is_some_and(|message| message.starts_with(&[0x08, 0x01]))
}

#[cfg(test)]
mod tests;
