//! The TCP proxy.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;
use weft_model::{ClusterChoice, HashSource, OnDemandClusters, TcpProxy, Wanted};
use weft_net::{
    DownstreamStream, Established, Passed, Phase, RelayCounters, RelayEnd, Side, relay,
};
use weft_telemetry::{LogRecord, ResponseFlag, ResponseFlags};
use weft_upstream::{PickContext, UpstreamError, UpstreamStream, WorkerCluster};

use crate::demand;
use crate::forward::of_client;
use crate::worker::WorkerCx;

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
}

/// Carries the bytes of a connection to and from an upstream.
pub(crate) async fn serve(established: Established, proxy: Arc<TcpProxy>, worker: Rc<WorkerCx>) {
    let Established { mut stream, facts, mut guard, chain: _, listener: _ } = established;
    let mut session = Session::begin(proxy, facts);
    let longest = worker.timers.after(session.proxy.max_duration);
    tokio::select! {
        biased;
        () = session.carry(&mut stream, &worker) => {}
        () = guard.drain.reached(Phase::Forced) => session.flags.set(ResponseFlag::LocalReset),
        () = longest => session.flags.set(ResponseFlag::DurationTimeout),
    }
}

impl Session {
    fn begin(proxy: Arc<TcpProxy>, facts: Arc<weft_filter_api::ConnectionFacts>) -> Self {
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
        }
    }

    async fn carry(&mut self, stream: &mut DownstreamStream, worker: &WorkerCx) {
        let Some(mut upstream) = self.connect(worker).await else { return };
        let idle = self.proxy.idle_timeout;
        let first = Side::over_socket(stream, DownstreamStream::tcp, |_, _| {});
        let second = Side::over_socket(&mut upstream, UpstreamStream::tcp, count_passed);
        let end = relay(first, second, idle, &worker.timers, &self.counters).await;
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

    /// Connects, on other endpoints if need be.
    async fn connect(&mut self, worker: &WorkerCx) -> Option<UpstreamStream> {
        let Some(cluster) = self.choose(worker).await else {
            self.proxy.stats.cx_no_route.inc();
            self.flags.set(ResponseFlag::NoClusterFound);
            return None;
        };
        self.cluster = Some(Rc::clone(&cluster));
        loop {
            self.attempts += 1;
            match self.try_once(&cluster).await {
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

    async fn try_once(&mut self, cluster: &WorkerCluster) -> Result<UpstreamStream, UpstreamError> {
        let facts = &self.facts;
        let by_client =
            self.proxy.hash.iter().any(|policy| matches!(policy.source, HashSource::SourceIp));
        let picked = cluster.pick(&PickContext {
            hash: by_client.then(|| of_client(facts.remote)),
            original_destination: facts.restored.then_some(facts.local),
            sni: facts.server_name.as_deref(),
            labels: self.proxy.labels.as_deref(),
            ..PickContext::default()
        })?;
        self.upstream = picked.address();
        let upstream = cluster.connect_tcp(&picked).await?;
        self.upstream = upstream.remote_address().or(self.upstream);
        self.upstream_local = upstream.local_address();
        Ok(upstream)
    }

    /// The cluster; one that is not there is fetched where that is configured.
    async fn choose(&self, worker: &WorkerCx) -> Option<Rc<WorkerCluster>> {
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

    fn log(&self) {
        let record = LogRecord {
            duration: Some(self.started.elapsed()),
            flags: self.flags,
            transport_failure: self.transport_failure.as_deref(),
            bytes_received: self.counters.forward.get(),
            bytes_sent: self.counters.backward.get(),
            upstream_host: self.upstream,
            upstream_cluster: self.cluster.as_ref().map(|cluster| &**cluster.handle().name()),
            upstream_local: self.upstream_local,
            attempts: self.attempts,
            ..self.facts.record()
        };
        for log in &self.proxy.access_logs {
            log.log(&record);
        }
    }
}

/// Counts what went past the upstream's stream.
fn count_passed(upstream: &UpstreamStream, passed: Passed) {
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
            self.log();
        }
    }
}
