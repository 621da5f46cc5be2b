//! From an accepted socket to a connection with a filter chain.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;
use weft_filter_api::{ConnectionFacts, TlsFacts};
use weft_model::{
    ChainKey, FilterChain, Listener, SnapshotWatch, TransportProtocol, TransportSocket,
};
use weft_telemetry::{LogRecord, ResponseFlag, ResponseFlags};
use weft_tls::{ServerTls, TlsError};

use crate::balance::Counted;
use crate::drain::{Drain, DrainWatch};
use crate::inspect::{Findings, InspectError, inspect};
use crate::stream::{DownstreamStream, RawStream};
use crate::tls_facts::tls_facts;

/// How long a TLS handshake may take unless the chain says otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection that found its filter chain and did its handshake; the next step serves it.
#[derive(Debug)]
pub struct Established {
    /// The bytes, decrypted.
    pub stream: DownstreamStream,
    /// What is known about the connection.
    pub facts: Arc<ConnectionFacts>,
    /// What is to be done with it.
    pub chain: Arc<FilterChain>,
    /// The listener that it belongs to, after hand-off.
    pub listener: Arc<Listener>,
    /// Counts the connection as open, and tells when to end it.
    pub guard: ConnectionGuard,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    /// When and how far the connection has to drain.
    pub drain: DrainWatch,
    listener: Arc<Listener>,
    /// Counts it with its worker.
    counted: Option<Counted>,
}

impl ConnectionGuard {
    fn new(listener: &Arc<Listener>, drain: &Drain, counted: Option<Counted>) -> Self {
        listener.stats.cx_total.inc();
        listener.stats.cx_active.inc();
        Self { drain: drain.watch(), listener: Arc::clone(listener), counted }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.listener.stats.cx_active.dec();
        self.listener.stats.cx_destroy.inc();
    }
}

/// Why a connection ended before it was established.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The client left, or its first bytes were refused.
    #[error(transparent)]
    Inspection(#[from] InspectError),
    /// The listener filters took too long.
    #[error("the listener filters took longer than listener_filters_timeout")]
    InspectionTimeout,
    /// No filter chain matches.
    #[error("no filter chain matches")]
    NoChain,
    /// The chain's certificates have not arrived.
    #[error("filter chain {0:?}: its TLS secrets have not arrived")]
    SecretsMissing(Arc<str>),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[from] TlsError),
    /// The handshake took too long.
    #[error("the TLS handshake took too long")]
    TlsTimeout,
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Socket(#[from] std::io::Error),
}

/// A socket that was just accepted.
pub(crate) struct Arrival {
    pub(crate) stream: RawStream,
    /// Client and destination; none for Unix sockets.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
    pub(crate) listener: Arc<Listener>,
    pub(crate) drain: Drain,
    /// Counts it with its worker, where there are several.
    pub(crate) counted: Option<Counted>,
}

/// Sniffs, hands off, chooses the chain and does the handshake.
pub(crate) async fn establish(
    arrival: Arrival,
    snapshot: &SnapshotWatch,
) -> Result<Established, Refused> {
    let accepted = SystemTime::now();
    let Arrival { stream, addresses, listener, drain, counted } = arrival;
    let guard = ConnectionGuard::new(&listener, &drain, counted);
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let (remote, local) = addresses.unwrap_or((nowhere, nowhere));
    let mut findings = Findings {
        direct: remote.ip(),
        remote,
        local,
        restored: false,
        tlvs: None,
        keep_source: None,
        transport: TransportProtocol::Raw,
        server_name: None,
        protocols: SmallVec::new(),
    };
    let mut stream = run_filters(stream, &listener, &mut findings).await?;
    let mut target = (listener, guard);
    if let Some(handed) = hand_off(&target.0, &findings, snapshot) {
        stream = run_filters(stream, &handed, &mut findings).await?;
        let guard = ConnectionGuard::new(&handed, &drain, target.1.counted.take());
        target = (handed, guard);
    }
    let (listener, guard) = target;
    let Some(chain) = choose(&listener, &findings) else {
        refuse_without_chain(&listener, &findings, accepted);
        return Err(Refused::NoChain);
    };
    let (stream, tls) = handshake(stream, &chain, &listener).await?;
    let facts = ConnectionFacts {
        id: next_id(),
        remote: findings.remote,
        local: findings.local,
        restored: findings.restored,
        accepted,
        application_protocols: findings.protocols.into_vec(),
        server_name: findings.server_name,
        tls,
        annotations: None,
        tlvs: findings.tlvs,
        keep_source: findings.keep_source,
        kept: Vec::new(),
    };
    Ok(Established { stream, facts: Arc::new(facts), chain, listener, guard })
}

/// Runs the listener filters within their time.
async fn run_filters(
    mut stream: RawStream,
    listener: &Listener,
    findings: &mut Findings,
) -> Result<RawStream, Refused> {
    if listener.filters.is_empty() && !listener.use_original_dst {
        return Ok(stream);
    }
    let Some(limit) = listener.filters_timeout else {
        inspect(&mut stream, listener, findings).await?;
        return Ok(stream);
    };
    match tokio::time::timeout(limit, inspect(&mut stream, listener, findings)).await {
        Ok(done) => {
            done?;
            Ok(stream)
        }
        Err(_) => {
            listener.stats.pre_cx_timeout.inc();
            if listener.continue_on_timeout {
                Ok(stream.announce_again()?)
            } else {
                Err(Refused::InspectionTimeout)
            }
        }
    }
}

/// The listener of the original destination, where it is another one.
fn hand_off(
    listener: &Arc<Listener>,
    findings: &Findings,
    snapshot: &SnapshotWatch,
) -> Option<Arc<Listener>> {
    if !listener.use_original_dst || !findings.restored {
        return None;
    }
    let snapshot = snapshot.borrow();
    let found = snapshot.hand_off.find(findings.local)?;
    (found.name != listener.name).then(|| Arc::clone(found))
}

fn choose(listener: &Listener, findings: &Findings) -> Option<Arc<FilterChain>> {
    let key = ChainKey {
        port: findings.local.port(),
        ip: findings.local.ip(),
        server_name: findings.server_name.as_deref(),
        transport: findings.transport,
        application_protocols: &findings.protocols,
        source: findings.remote,
        direct_source: findings.direct,
    };
    listener.chains.find(&key).cloned()
}

async fn handshake(
    stream: RawStream,
    chain: &FilterChain,
    listener: &Listener,
) -> Result<(DownstreamStream, Option<Arc<TlsFacts>>), Refused> {
    let TransportSocket::Tls(slot) = &chain.transport else { return Ok((stream.into(), None)) };
    let Some(tls) = slot.get() else {
        listener.stats.ssl_connection_error.inc();
        return Err(Refused::SecretsMissing(Arc::clone(&chain.name)));
    };
    // In a box of its own: it is large, and gone when the connection is served.
    let result = Box::pin(accept_tls(stream, tls, chain)).await;
    match result {
        Ok((stream, facts)) => {
            listener.stats.ssl_handshake.inc();
            Ok((stream, Some(Arc::new(facts))))
        }
        Err(refused) => {
            count_failure(listener, &refused);
            Err(refused)
        }
    }
}

async fn accept_tls(
    stream: RawStream,
    tls: Arc<ServerTls>,
    chain: &FilterChain,
) -> Result<(DownstreamStream, TlsFacts), Refused> {
    let limit = chain.handshake_timeout.unwrap_or(HANDSHAKE_TIMEOUT);
    let stream = tokio::time::timeout(limit, tls.accept(stream))
        .await
        .map_err(|_| Refused::TlsTimeout)??;
    let facts = tls_facts(&stream, &tls);
    Ok((DownstreamStream::Tls(Box::new(stream)), facts))
}

fn count_failure(listener: &Listener, refused: &Refused) {
    listener.stats.ssl_connection_error.inc();
    let Refused::Tls(error) = refused else { return };
    if matches!(error, TlsError::NoPeerCertificate) {
        listener.stats.ssl_fail_verify_no_cert.inc();
    } else if matches!(error, TlsError::Verify(_)) {
        listener.stats.ssl_fail_verify_error.inc();
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn refuse_without_chain(listener: &Listener, findings: &Findings, accepted: SystemTime) {
    listener.stats.no_filter_chain_match.inc();
    if listener.access_logs.is_empty() {
        return;
    }
    let mut flags = ResponseFlags::NONE;
    flags.set(ResponseFlag::NoRouteFound);
    let record = LogRecord {
        duration: Some(accepted.elapsed().unwrap_or_default()),
        flags,
        details: "filter_chain_not_found",
        server_name: findings.server_name.as_deref(),
        connection_id: next_id(),
        ..LogRecord::new(accepted, findings.remote, findings.local)
    };
    for log in &listener.access_logs {
        log.log(&record);
    }
}
