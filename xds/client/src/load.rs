//! Load reports: how much is sent to which endpoints, told to the management server that asks
//! (`envoy.service.load_stats.v3.LoadReportingService`).

use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use weft_xds_proto::pb::envoy::{
    config::endpoint::v3::ClusterStats,
    service::load_stats::v3::{
        LoadStatsRequest, LoadStatsResponse,
        load_reporting_service_client::LoadReportingServiceClient,
    },
};

use crate::{ClientConfig, Transport, backoff::Waits, rpc};

/// Reports that may wait to be sent.
const QUEUE: usize = 4;
/// The shortest time between two reports, whatever the server says.
const SHORTEST: Duration = Duration::from_millis(100);

/// What a server wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedLoads {
    /// `send_all_clusters`
    pub all: bool,
    /// `clusters`
    pub clusters: BTreeSet<String>,
    /// `report_endpoint_granularity`
    pub by_endpoint: bool,
}

impl WantedLoads {
    /// Whether the load of a cluster is wanted.
    #[must_use]
    pub fn includes(&self, cluster: &str) -> bool {
        self.all || self.clusters.contains(cluster)
    }
}

/// What knows the load.
pub trait LoadSource: Send + 'static {
    /// The load of the wanted clusters since the last report, or since they were first wanted.
    fn report(&mut self, wanted: &WantedLoads) -> Vec<ClusterStats>;
}

/// Reports until it is dropped.
#[derive(Debug)]
pub struct LoadReports(JoinHandle<()>);

impl Drop for LoadReports {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reports to a server for as long as the handle lives; a stream that is lost is opened again.
///
/// # Panics
/// When called outside a tokio runtime.
#[must_use]
pub fn report_loads(
    config: ClientConfig,
    transport: Arc<dyn Transport>,
    source: Box<dyn LoadSource>,
) -> LoadReports {
    LoadReports(tokio::spawn(Box::pin(run(config, transport, source))))
}

async fn run(config: ClientConfig, transport: Arc<dyn Transport>, mut source: Box<dyn LoadSource>) {
    let mut waits = Waits::new(config.backoff);
    loop {
        let mut answered = false;
        let ended = talk(&config, &transport, &mut *source, &mut answered).await;
        let reason = ended.err().unwrap_or_else(|| "the server closed the stream".to_owned());
        tracing::debug!(reason, "loads are not reported");
        if answered {
            waits.reset();
        }
        sleep(waits.next()).await;
    }
}

async fn talk(
    config: &ClientConfig,
    transport: &Arc<dyn Transport>,
    source: &mut dyn LoadSource,
    answered: &mut bool,
) -> Result<(), String> {
    let (sender, requests) = mpsc::channel(QUEUE);
    let request =
        |cluster_stats| LoadStatsRequest { node: Some(config.node.clone()), cluster_stats };
    let gone = |_| "the call is over".to_owned();
    sender.send(request(Vec::new())).await.map_err(gone)?;
    let mut call = Request::new(ReceiverStream::new(requests));
    *call.metadata_mut() = transport.metadata().map_err(|error| error.to_string())?;
    let channel = rpc::connect(transport, config).await.map_err(|error| error.to_string())?;
    let mut client = LoadReportingServiceClient::new(channel);
    let answers = client.stream_load_stats(call).await.map_err(|status| status.to_string())?;
    let mut answers = answers.into_inner();
    let mut period: Option<Period> = None;
    loop {
        // What the server wants counts from the moment on at which it says so.
        tokio::select! {
            biased;
            answer = answers.message() => match answer.map_err(|status| status.to_string())? {
                None => return Ok(()),
                Some(answer) => {
                    *answered = true;
                    let begun = Period::new(&answer);
                    // What was there before the server asked is no load of this period.
                    source.report(&begun.wanted);
                    period = Some(begun);
                }
            },
            () = due(period.as_ref()) => {
                let Some(period) = &mut period else { continue };
                let mut stats = source.report(&period.wanted);
                let interval = period.next();
                for one in &mut stats {
                    one.load_report_interval = Some(interval);
                }
                sender.send(request(stats)).await.map_err(gone)?;
            }
        }
    }
}

/// The time between two reports.
struct Period {
    wanted: WantedLoads,
    interval: Duration,
    begun: Instant,
}

impl Period {
    fn new(answer: &LoadStatsResponse) -> Self {
        let interval = answer.load_reporting_interval.as_ref();
        let interval = interval.map_or(Duration::ZERO, |interval| {
            let seconds = u64::try_from(interval.seconds).unwrap_or_default();
            Duration::new(seconds, u32::try_from(interval.nanos).unwrap_or_default())
        });
        Self {
            wanted: WantedLoads {
                all: answer.send_all_clusters,
                clusters: answer.clusters.iter().cloned().collect(),
                by_endpoint: answer.report_endpoint_granularity,
            },
            interval: interval.max(SHORTEST),
            begun: Instant::now(),
        }
    }

    /// Begins the next one; returns how long this one was.
    fn next(&mut self) -> weft_xds_proto::pb::google::protobuf::Duration {
        let lasted = self.begun.elapsed();
        self.begun = Instant::now();
        weft_xds_proto::pb::google::protobuf::Duration {
            seconds: i64::try_from(lasted.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(lasted.subsec_nanos()).unwrap_or_default(),
        }
    }
}

async fn due(period: Option<&Period>) {
    match period {
        Some(period) => sleep_until(period.begun + period.interval).await,
        None => pending().await,
    }
}
