//! Listener filters: what a connection shows before its filter chain is chosen.
//!
//! Nothing is taken out of the socket (the PROXY header excepted): the
//! inspectors look at the bytes with `MSG_PEEK`, and whoever serves the
//! connection reads them again.

mod hello;
mod http;
mod proxy;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use smallvec::SmallVec;
use weft_filter_api::{KeepSource, Tlv};
use weft_model::{Listener, ListenerFilterKind, TransportProtocol};

use crate::original_dst;
use crate::stream::{Peeked, RawStream};

pub use hello::{ClientHello, HelloError, parse_client_hello};
pub use proxy::{ProxyHeader, ProxyHeaderError, parse_proxy_header};

/// How many bytes a ClientHello may have (as Envoy).
const MAX_HELLO: usize = 64 << 10;
/// How many bytes a request line may have.
const MAX_REQUEST_LINE: usize = 8 << 10;

/// What the listener filters found out.
#[derive(Clone, Debug)]
pub(crate) struct Findings {
    /// The peer of the socket.
    pub(crate) direct: IpAddr,
    /// The client: of the socket, or from the PROXY protocol.
    pub(crate) remote: SocketAddr,
    /// Where it connected to.
    pub(crate) local: SocketAddr,
    /// Whether `local` was restored from an interception.
    pub(crate) restored: bool,
    /// Of the PROXY header, besides addresses.
    pub(crate) tlvs: Option<Arc<[Tlv]>>,
    /// `original_src`
    pub(crate) keep_source: Option<KeepSource>,
    /// TLS, if a ClientHello was seen.
    pub(crate) transport: TransportProtocol,
    /// SNI, lower case.
    pub(crate) server_name: Option<Arc<str>>,
    /// ALPN names offered, or the HTTP version seen.
    pub(crate) protocols: SmallVec<[Arc<str>; 2]>,
}

/// Why a connection ends before it has a filter chain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    /// The socket failed, or the client went away without a byte.
    #[error("the client went away: {0}")]
    Gone(#[from] io::Error),
    /// Bytes that break the protocol that the listener demands.
    #[error("{0}")]
    Refused(&'static str),
}

/// Runs a listener's filters in order.
pub(crate) async fn inspect(
    stream: &mut RawStream,
    listener: &Listener,
    findings: &mut Findings,
) -> Result<(), InspectError> {
    if listener.use_original_dst {
        restore(stream, listener, findings);
    }
    for filter in &listener.filters {
        if filter.disabled.as_ref().is_some_and(|off| off.holds(findings.local.port())) {
            continue;
        }
        match filter.kind {
            ListenerFilterKind::OriginalDst => restore(stream, listener, findings),
            ListenerFilterKind::OriginalSrc(keep) => findings.keep_source = Some(keep),
            ListenerFilterKind::TlsInspector => look_for_tls(stream, findings).await?,
            ListenerFilterKind::HttpInspector => look_for_http(stream, findings).await?,
            ListenerFilterKind::ProxyProtocol { optional } => {
                proxy::take_header(stream, optional, findings).await?;
            }
        }
    }
    Ok(())
}

fn restore(stream: &RawStream, listener: &Listener, findings: &mut Findings) {
    if findings.restored {
        return;
    }
    let RawStream::Tcp(stream) = stream else { return };
    if listener.transparent {
        findings.restored = true;
    } else if let Some(address) = original_dst::original_destination(stream) {
        findings.local = address;
        findings.restored = true;
    }
}

async fn look_for_tls(stream: &RawStream, findings: &mut Findings) -> Result<(), InspectError> {
    let hello = stream.peek(MAX_HELLO, |bytes, last| match parse_client_hello(bytes) {
        Ok(Some(hello)) => Peeked::Done(Some(hello)),
        Ok(None) if last => Peeked::Done(None),
        Ok(None) => Peeked::More,
        Err(HelloError::NotTls | HelloError::Malformed) => Peeked::Done(None),
    });
    if let Some(Some(hello)) = hello.await? {
        findings.transport = TransportProtocol::Tls;
        findings.server_name = hello.server_name;
        findings.protocols = hello.protocols;
    }
    Ok(())
}

async fn look_for_http(stream: &RawStream, findings: &mut Findings) -> Result<(), InspectError> {
    if findings.transport == TransportProtocol::Tls {
        return Ok(());
    }
    let version = stream.peek(MAX_REQUEST_LINE, |bytes, last| match http::version_of(bytes) {
        http::Guess::More if !last => Peeked::More,
        http::Guess::More | http::Guess::Other => Peeked::Done(None),
        http::Guess::Http(version) => Peeked::Done(Some(version)),
    });
    if let Some(Some(version)) = version.await? {
        findings.protocols.clear();
        findings.protocols.push(http::name(version));
    }
    Ok(())
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The worker's buffer for looking at bytes; it is held only while looking.
pub(crate) struct Scratch(Vec<u8>, usize);

/// The first `size` bytes of the worker's scratch buffer.
pub(crate) fn scratch(size: usize) -> Scratch {
    let mut buffer = SCRATCH.with(RefCell::take);
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    Scratch(buffer, size)
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0[..self.1]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        let _ = SCRATCH.try_with(|kept| *kept.borrow_mut() = buffer);
    }
}
