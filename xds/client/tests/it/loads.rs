//! Load reports to a server that asks for them.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};
use weft_xds_client::{
    ClientConfig, LoadSource, Node, TcpTransport, Variant, WantedLoads, report_loads,
};
use weft_xds_proto::pb::{
    envoy::{
        config::endpoint::v3::ClusterStats,
        service::load_stats::v3::{
            LoadStatsRequest, LoadStatsResponse,
            load_reporting_service_server::{LoadReportingService, LoadReportingServiceServer},
        },
    },
    google::protobuf::Duration as PbDuration,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for the load of `a`, and passes on what it is told.
struct Balancer(mpsc::Sender<LoadStatsRequest>);

#[tonic::async_trait]
impl LoadReportingService for Balancer {
    type StreamLoadStatsStream = ReceiverStream<Result<LoadStatsResponse, Status>>;

    async fn stream_load_stats(
        &self,
        request: Request<Streaming<LoadStatsRequest>>,
    ) -> Result<Response<Self::StreamLoadStatsStream>, Status> {
        let (answers, stream) = mpsc::channel(1);
        let (told, mut requests) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let first = request.cluster_stats.is_empty();
                told.send(request).await.unwrap();
                if first {
                    let wanted = LoadStatsResponse {
                        clusters: vec!["a".into()],
                        load_reporting_interval: Some(PbDuration {
                            seconds: 0,
                            nanos: 100_000_000,
                        }),
                        report_endpoint_granularity: true,
                        ..Default::default()
                    };
                    answers.send(Ok(wanted)).await.unwrap();
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Counts how often it was asked.
struct Counting(u64);

impl LoadSource for Counting {
    fn report(&mut self, wanted: &WantedLoads) -> Vec<ClusterStats> {
        assert!(wanted.includes("a") && !wanted.includes("b") && wanted.by_endpoint);
        self.0 += 1;
        let total_dropped_requests = self.0;
        vec![ClusterStats {
            cluster_name: "a".into(),
            total_dropped_requests,
            ..Default::default()
        }]
    }
}

#[tokio::test]
async fn a_server_is_told_of_the_load_as_often_as_it_wants() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (told, mut heard) = mpsc::channel(8);
    let service = LoadReportingServiceServer::new(Balancer(told));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let node = Node { id: "n".into(), ..Default::default() };
    let config = ClientConfig::new(node, Variant::Sotw);
    let transport = Arc::new(TcpTransport::new(address));
    let _reports = report_loads(config, transport, Box::new(Counting(0)));
    let first = timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
    assert_eq!(first.node.unwrap().id, "n");
    assert!(first.cluster_stats.is_empty());
    for count in 2..4 {
        let report = timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
        let [stats] = report.cluster_stats.as_slice() else { panic!("one cluster") };
        assert_eq!((stats.cluster_name.as_str(), stats.total_dropped_requests), ("a", count));
        assert!(
            stats.load_report_interval.unwrap().nanos >= 100_000_000
                || stats.load_report_interval.unwrap().seconds > 0
        );
    }
}
