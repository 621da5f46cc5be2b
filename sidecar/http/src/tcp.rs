//! The TCP proxy.

mod preface;
mod watch;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use weft_filter_api::{PeerExchange, TCP_CLUSTER};
use weft_model::{ClusterChoice, ClusterExchange, HashSource, OnDemandClusters, TcpProxy, Wanted};
use weft_net::{
    DownstreamStream, Established, Passed, Phase, RelayCounters, RelayEnd, Side, relay,
};
use weft_telemetry::{LogRecord, ResponseFlag, ResponseFlags};
use weft_upstream::{PickContext, UpstreamError, UpstreamStream, WorkerCluster};

use crate::demand;
use crate::forward::of_client;
use crate::tcp_tunnel::{self, Tunnel};
use crate::worker::WorkerCx;
use preface::{Prefaced, Told};
use watch::Watch;

/// What is known about one proxied connection; logged and counted when it is dropped.
struct Session {
    proxy: Arc<TcpProxy>,
    facts: Arc<weft_filter_api::ConnectionFacts>,
    started: Instant,
    cluster: Option<Rc<WorkerCluster>>,
    upstream: Option<std::net::SocketAddr>,
    upstream_local: Option<std::net::SocketAddr>,
    attempts: u32,
    flags: ResponseFlags,
    transport_failure: Option<String>,
    counters: RelayCounters,
    worker: Rc<WorkerCx>,
    /// Filters that are told what is carried.
    watch: Option<Box<Watch>>,
    /// What client and proxy tell each other first.
    exchange: Option<Arc<PeerExchange>>,
    /// What the client, and the upstream, said of itself.
    told: [Told; 2],
}

/// The other side of a session.
enum Peer {
    Plain(UpstreamStream),
    Tunnel(Tunnel),
}

/// Carries the bytes of a connection to and from an upstream.
pub(crate) async fn serve(established: Established, proxy: Arc<TcpProxy>, worker: Rc<WorkerCx>) {
    let Established { mut stream, facts, mut guard, chain, listener: _ } = established;
    let mut session = Session::begin(proxy, facts, &worker);
    session.watch = Watch::over(&chain);
    session.exchange = chain.network_filters.iter().find_map(|one| one.peer_exchange()).cloned();
    let longest = worker.timers.after(session.proxy.max_duration);
    tokio::select! {
        biased;
        () = session.carry(&mut stream, &worker) => {}
        () = guard.drain.reached(Phase::Forced) => session.flags.set(ResponseFlag::LocalReset),
        () = longest => session.flags.set(ResponseFlag::DurationTimeout),
    }
}

impl Session {
    fn begin(
        proxy: Arc<TcpProxy>,
        facts: Arc<weft_filter_api::ConnectionFacts>,
        worker: &Rc<WorkerCx>,
    ) -> Self {
        proxy.stats.cx_total.inc();
        proxy.stats.cx_active.inc();
        Self {
            proxy,
            facts,
            started: Instant::now(),
            cluster: None,
            upstream: None,
            upstream_local: None,
            attempts: 0,
            flags: ResponseFlags::NONE,
            transport_failure: None,
            counters: RelayCounters::default(),
            worker: Rc::clone(worker),
            watch: None,
            exchange: None,
            told: Default::default(),
        }
    }

    async fn carry(&mut self, stream: &mut DownstreamStream, worker: &WorkerCx) {
        let Ok(mut stream) = self.greet_client(stream).await else {
            self.flags.set(ResponseFlag::DownstreamConnectionTermination);
            return;
        };
        let Some(upstream) = self.connect(worker).await else { return };
        let idle = self.proxy.idle_timeout;
        let first = Side::over_socket(&mut stream, |stream| stream.inner().tcp(), |_, _| {});
        let end = match upstream {
            Peer::Plain(mut upstream) => {
                let Ok(mut upstream) = self.greet_upstream(&mut upstream).await else {
                    self.flags.set(ResponseFlag::UpstreamConnectionTermination);
                    return;
                };
                let second =
                    Side::over_socket(&mut upstream, |stream| stream.inner().tcp(), count_passed);
                self.watched(relay(first, second, idle, &worker.timers, &self.counters)).await
            }
            Peer::Tunnel(Tunnel { stream: mut tunnel, held: _held }) => {
                let second = Side::new(&mut tunnel);
                let carried = relay(first, second, idle, &worker.timers, &self.counters);
                // Few connections are carried so: the others keep a small future.
                Box::pin(self.watched(carried)).await
            }
        };
        match end {
            RelayEnd::Idle => self.proxy.stats.idle_timeout.inc(),
            RelayEnd::SecondFailed(_) => {
                self.flags.set(ResponseFlag::UpstreamConnectionTermination);
            }
            RelayEnd::FirstFailed(_) => {
                self.flags.set(ResponseFlag::DownstreamConnectionTermination);
            }
            RelayEnd::FirstClosed | RelayEnd::SecondClosed => {}
        }
    }

    /// Carries, and tells the filters that want to know.
    async fn watched(&self, relaying: impl Future<Output = RelayEnd>) -> RelayEnd {
        match &self.watch {
            None => relaying.await,
            Some(watch) => Box::pin(watch.during(relaying, self)).await,
        }
    }

    /// Tells the client who we are, where it wants to know.
    async fn greet_client<'s>(
        &self,
        stream: &'s mut DownstreamStream,
    ) -> io::Result<Prefaced<'s, DownstreamStream>> {
        let Some(exchange) = &self.exchange else { return Ok(Prefaced::plain(stream)) };
        let alpn = self.facts.tls.as_ref().and_then(|tls| tls.alpn.as_deref());
        Box::pin(Prefaced::exchanging(stream, exchange, alpn, &self.told[0])).await
    }

    /// The same for the upstream.
    async fn greet_upstream<'s>(
        &self,
        upstream: &'s mut UpstreamStream,
    ) -> io::Result<Prefaced<'s, UpstreamStream>> {
        let config = self.cluster.as_ref().map(|cluster| cluster.handle().config());
        let exchange = config.as_ref().and_then(|config| config.exchange.as_ref());
        let Some(ClusterExchange { exchange, .. }) = exchange else {
            return Ok(Prefaced::plain(upstream));
        };
        let alpn = upstream.alpn().map(<[u8]>::to_vec);
        let told = &self.told[1];
        Box::pin(Prefaced::exchanging(upstream, exchange, alpn.as_deref(), told)).await
    }

    /// Connects, on other endpoints if need be.
    async fn connect(&mut self, worker: &WorkerCx) -> Option<Peer> {
        let Some(cluster) = self.choose(worker).await else {
            self.proxy.stats.cx_no_route.inc();
            self.flags.set(ResponseFlag::NoClusterFound);
            return None;
        };
        self.cluster = Some(Rc::clone(&cluster));
        loop {
            self.attempts += 1;
            match self.try_once(&cluster, worker).await {
                Ok(upstream) => return Some(upstream),
                Err(error) => {
                    self.transport_failure = error.transport_failure().map(str::to_owned);
                    let pointless = matches!(
                        error,
                        UpstreamError::NoHealthyUpstream | UpstreamError::Overflow(_)
                    );
                    if pointless || self.attempts >= self.proxy.max_connect_attempts.max(1) {
                        self.flags.set(error.flag());
                        if !pointless && self.attempts > 1 {
                            self.flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
                        }
                        return None;
                    }
                }
            }
        }
    }

    async fn try_once(
        &mut self,
        cluster: &WorkerCluster,
        worker: &WorkerCx,
    ) -> Result<Peer, UpstreamError> {
        let facts = &self.facts;
        let by_client =
            self.proxy.hash.iter().any(|policy| matches!(policy.source, HashSource::SourceIp));
        let exchange = cluster.handle().config().exchange.clone();
        let picked = cluster.pick(&PickContext {
            hash: by_client.then(|| of_client(facts.remote)),
            original_destination: facts.restored.then_some(facts.local),
            sni: facts.server_name.as_deref(),
            labels: self.proxy.labels.as_deref(),
            alpn: exchange.as_ref().map(|exchange| &exchange.offered),
            connection: Some(facts),
            ..PickContext::default()
        })?;
        self.upstream = picked.address();
        if let Some(tunnel) = &self.proxy.tunnel {
            let record = facts.record();
            let patience = worker.timers.after(self.proxy.idle_timeout);
            let opened = tokio::select! {
                biased;
                opened = Box::pin(tcp_tunnel::open(tunnel, cluster, &picked, &record)) => opened?,
                () = patience => return Err(tcp_tunnel::refused(&picked, "it did not answer")),
            };
            return Ok(Peer::Tunnel(opened));
        }
        let upstream = cluster.connect_tcp(&picked).await?;
        self.upstream = upstream.remote_address().or(self.upstream);
        self.upstream_local = upstream.local_address();
        Ok(Peer::Plain(upstream))
    }

    /// The cluster; one that is not there is fetched where that is configured.
    async fn choose(&self, worker: &WorkerCx) -> Option<Rc<WorkerCluster>> {
        let said = self.facts.annotations.as_deref().and_then(|said| said.state(TCP_CLUSTER));
        if let Some(name) = said.and_then(|name| name.as_str()) {
            let snapshot = worker.snapshot.borrow();
            let handle = snapshot.clusters.get(name)?;
            return Some(worker.upstreams.cluster(handle));
        }
        let slot = match &self.proxy.clusters {
            ClusterChoice::One(slot) => slot,
            ClusterChoice::Weighted(weighted) => &weighted.choose(fastrand::u64(..))?.cluster,
            // A connection without HTTP has no headers.
            ClusterChoice::Header(_) => return None,
        };
        let there = || slot.peek().as_ref().map(|handle| worker.upstreams.cluster(handle));
        match (there(), &self.proxy.on_demand) {
            (None, Some(OnDemandClusters { demand, timeout })) => {
                let wanted = Wanted::Cluster(Arc::clone(slot.name()));
                let waited = demand::wait(demand, &wanted, *timeout, &worker.timers);
                Box::pin(waited).await?;
                there()
            }
            (there, _) => there,
        }
    }

    fn record(&self) -> LogRecord<'_> {
        LogRecord {
            duration: Some(self.started.elapsed()),
            flags: self.flags,
            transport_failure: self.transport_failure.as_deref(),
            bytes_received: self.counters.forward.get(),
            bytes_sent: self.counters.backward.get(),
            upstream_host: self.upstream,
            upstream_cluster: self.cluster.as_ref().map(|cluster| &**cluster.handle().name()),
            upstream_local: self.upstream_local,
            attempts: self.attempts,
            clusters: Some(&*self.worker),
            ..self.facts.record()
        }
    }
}

/// Counts what went past the upstream's stream.
fn count_passed(upstream: &Prefaced<'_, UpstreamStream>, passed: Passed) {
    let upstream = upstream.inner();
    match passed {
        Passed::Received(count) => upstream.count_received(count),
        Passed::Sent(count) => upstream.count_sent(count),
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let stats = &self.proxy.stats;
        stats.cx_active.dec();
        stats.cx_rx_bytes.add(self.counters.forward.get());
        stats.cx_tx_bytes.add(self.counters.backward.get());
        if !self.proxy.access_logs.is_empty() {
            let record = self.record();
            self.proxy.access_logs.iter().for_each(|log| log.log(&record));
        }
        if let Some(watch) = &self.watch {
            watch.tell(self, true);
        }
    }
}
