//! Connections to the members, with and without TLS.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_tls::{CertifiedChain, ClientTls, ClientTlsSpec, TrustBundle, ValidationSpec};

use super::config::{EtcdConfig, EtcdTls};

/// How often an idle connection is tried out; etcd allows no less than 5 s.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long the answer to that may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Debian's authorities, for members with a public certificate.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to a member that opens when it is needed, and again when it broke.
///
/// # Errors
/// The address, or the file of a certificate that can't be used.
pub(super) fn channel(address: &str, config: &EtcdConfig) -> Result<Channel, String> {
    let wrong = |reason: &str| format!("endpoint {address:?}: {reason}");
    let uri: Uri = address.parse().map_err(|_| wrong("no URL"))?;
    let host = uri.host().ok_or_else(|| wrong("no host"))?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(2379);
    let tls = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => {
            let name = config.tls.sni.clone().unwrap_or_else(|| host.clone());
            Some((client(&config.tls, &name)?, name))
        }
        _ => return Err(wrong("neither http:// nor https://")),
    };
    // TLS is made below; for tonic it is a plain connection.
    let authority = uri.authority().map_or_else(String::new, ToString::to_string);
    let endpoint = Endpoint::try_from(format!("http://{authority}"));
    let endpoint = endpoint
        .map_err(|error| wrong(&error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connect = tower::service_fn(move |_: Uri| {
        let (host, tls) = (host.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Io> = match tls {
                None => Box::new(stream),
                Some((client, name)) => {
                    let secured = client.connect(stream, Some(&name), None).await;
                    Box::new(secured.map_err(io::Error::other)?)
                }
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connect))
}

fn client(tls: &EtcdTls, name: &str) -> Result<Arc<ClientTls>, String> {
    let validation = if tls.verify {
        let path = tls.ca.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_ROOTS));
        let roots = TrustBundle::from_pem(&read(&path)?);
        let roots = roots.map_err(|error| format!("{}: {error}", path.display()))?;
        Some(ValidationSpec::new(roots, Vec::new()))
    } else {
        None
    };
    let certificate = match &tls.identity {
        Some((cert, key)) => {
            let chain = CertifiedChain::from_pem(&read(cert)?, &read(key)?);
            Some(chain.map_err(|error| format!("{}: {error}", cert.display()))?)
        }
        None => None,
    };
    let spec = ClientTlsSpec {
        certificate,
        match_server_name: validation.is_some(),
        validation,
        alpn: vec![b"h2".to_vec()],
        sni: Some(name.to_owned()),
        ..ClientTlsSpec::default()
    };
    ClientTls::new(&spec).map(Arc::new).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}
