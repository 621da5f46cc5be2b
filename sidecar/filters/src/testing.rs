//! What the tests of filters share.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weft_filter_api::{
    BoxedBody, CalloutError, CalloutFuture, CalloutOptions, Callouts, ConnectionFacts, Flow,
    LocalReply, MessageBody, NetworkFilter, NetworkFlow, OpeningFuture, Protocol, StreamCx,
    StreamIo, Trailers,
};
use weft_model::TrafficDirection;
use weft_telemetry::{Metric, Registry};
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::{Message, Name};

use crate::FilterCx;

/// What the compilation of filters reads: a nameless node, and statistics below `http.in`.
#[derive(Default)]
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    pub(crate) node: Node,
    pub(crate) direction: TrafficDirection,
}

impl Fixture {
    pub(crate) fn cx(&self) -> FilterCx<'_> {
        FilterCx {
            node: &self.node,
            registry: &self.registry,
            stat_prefix: "in",
            direction: self.direction,
        }
    }

    /// Every counter with its value, sorted by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let all = self.registry.all().into_iter();
        let mut counters: Vec<_> = all
            .filter_map(|(name, metric)| match metric {
                Metric::Counter(counter) => Some((name.dotted(), counter.value())),
                Metric::Gauge(_) | Metric::Histogram(_) => None,
            })
            .collect();
        counters.sort();
        counters
    }
}

/// A connection from 192.0.2.1.
pub(crate) fn connection() -> ConnectionFacts {
    ConnectionFacts {
        id: 1,
        remote: SocketAddr::from(([192, 0, 2, 1], 40_000)),
        local: SocketAddr::from(([192, 0, 2, 2], 80)),
        restored: false,
        accepted: SystemTime::UNIX_EPOCH,
        application_protocols: Vec::new(),
        server_name: None,
        tls: None,
        annotations: None,
        tlvs: None,
        keep_source: None,
        kept: Vec::new(),
    }
}

/// The context of a stream that begins now, on a connection from 192.0.2.1.
pub(crate) fn stream(protocol: Protocol) -> StreamCx {
    StreamCx::new(Arc::new(connection()), protocol)
}

/// Runs a test as a worker does.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime");
    runtime.block_on(test)
}

/// What a filter answers, now or later; `None`: it lets pass.
pub(crate) async fn answer_of(flow: Flow<'_>) -> Option<LocalReply> {
    match flow {
        Flow::Continue => None,
        Flow::Reply(reply) => Some(reply),
        Flow::Await(waiting) => waiting.await,
    }
}

type Answer = Result<Response<Bytes>, CalloutError>;
type Script = dyn Fn(&str, Request<Bytes>) -> Answer;

/// Clusters whose unary answers a test writes.
#[derive(Clone)]
pub(crate) struct Scripted(Rc<Script>);

impl Scripted {
    pub(crate) fn new(script: impl Fn(&str, Request<Bytes>) -> Answer + 'static) -> Self {
        Self(Rc::new(script))
    }

    /// What a filter reaches: this body, and these clusters.
    pub(crate) fn io(&self, request: MessageBody) -> Box<StreamIo> {
        Box::new(StreamIo::new(request, Rc::new(self.clone())))
    }
}

impl Callouts for Scripted {
    fn send(&self, cluster: &str, request: Request<Bytes>, _: CalloutOptions) -> CalloutFuture {
        let answer = (self.0)(cluster, request);
        Box::pin(std::future::ready(answer))
    }

    fn open(&self, _: &str, _: Request<BoxedBody>, _: Duration) -> OpeningFuture {
        Box::pin(std::future::ready(Err(CalloutError::Nowhere)))
    }
}

/// One server of HTTP/2 with prior knowledge, whatever the cluster is called.
pub(crate) struct Server(pub(crate) SocketAddr);

impl Server {
    /// A tonic server of these services.
    pub(crate) async fn start(routes: tonic::service::Routes) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_routes(routes);
        tokio::spawn(server.serve_with_incoming(connections));
        Self(address)
    }

    /// What a filter reaches: this body, and this server.
    pub(crate) fn io(&self, request: MessageBody) -> Box<StreamIo> {
        Box::new(StreamIo::new(request, Rc::new(Self(self.0))))
    }
}

impl Callouts for Server {
    fn send(&self, _: &str, request: Request<Bytes>, _: CalloutOptions) -> CalloutFuture {
        let address = self.0;
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| {
                CalloutError::Failed(std::sync::Arc::from(error.to_string()))
            };
            let stream = tokio::net::TcpStream::connect(address).await;
            let stream = TokioIo::new(stream.map_err(|error| failed(&error))?);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            let answer = sender.send_request(request.map(Full::new)).await;
            let (mut head, body) = answer.map_err(|error| failed(&error))?.into_parts();
            let body = body.collect().await.map_err(|error| failed(&error))?;
            if let Some(trailers) = body.trailers() {
                head.extensions.insert(Trailers(trailers.clone()));
            }
            Ok(Response::from_parts(head, body.to_bytes()))
        })
    }

    fn open(&self, _: &str, _: Request<BoxedBody>, _: Duration) -> OpeningFuture {
        Box::pin(std::future::ready(Err(CalloutError::Nowhere)))
    }
}

/// Clusters of which each is unknown.
pub(crate) fn no_clusters() -> Rc<dyn Callouts> {
    Rc::new(Scripted::new(|_, _| Err(CalloutError::Nowhere)))
}

/// What a network filter does of its configuration, in YAML.
pub(crate) fn network_filter<M: Message + Name + Default>(
    fixture: &Fixture,
    yaml: &str,
) -> Result<Arc<dyn NetworkFilter>, String> {
    let config: M = weft_xds_proto::from_yaml(yaml).map_err(|error| error.to_string())?;
    let any = weft_xds_proto::pack(&config);
    match crate::compile_network("a.filter", &any, &mut fixture.cx()) {
        Ok(crate::NetworkFilterKind::Filter(filter)) => Ok(filter),
        Ok(crate::NetworkFilterKind::Inert) => Err("it does nothing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a network filter lets a connection go on.
pub(crate) async fn admits(
    filter: &dyn NetworkFilter,
    connection: &mut ConnectionFacts,
    callouts: &Rc<dyn Callouts>,
) -> bool {
    match filter.connected(connection, callouts) {
        NetworkFlow::Continue => true,
        NetworkFlow::Close => false,
        NetworkFlow::Await(waiting) => waiting.await,
    }
}
