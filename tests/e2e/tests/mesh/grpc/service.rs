//! A small gRPC service by hand: one unary method, one stream both ways.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::Result;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use weft_netns::Host;

use crate::world::{connect, listen};

const UPPER: &str = "/weft.test.Lines/Upper";
const CHAT: &str = "/weft.test.Lines/Chat";

/// The one message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Line {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

impl Line {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned() }
    }
}

/// The client's side.
#[derive(Clone)]
pub(crate) struct Client(Channel);

impl Client {
    /// Connects from inside a namespace, and again when the connection is lost.
    pub(crate) async fn connect(from: &Host, address: SocketAddr, name: &str) -> Result<Self> {
        let from = from.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let from = from.clone();
            async move { connect(&from, address).await.map(TokioIo::new).map_err(std::io::Error::other) }
        });
        let endpoint = Endpoint::try_from(format!("http://{name}"))?;
        Ok(Self(endpoint.connect_with_connector(connector).await?))
    }

    pub(crate) async fn upper(&mut self, request: Request<Line>) -> Result<Response<Line>, Status> {
        let mut grpc = self.ready().await?;
        let codec = ProstCodec::<Line, Line>::default();
        grpc.unary(request, PathAndQuery::from_static(UPPER), codec).await
    }

    pub(crate) async fn chat(
        &mut self,
        lines: ReceiverStream<Line>,
    ) -> Result<Response<Streaming<Line>>, Status> {
        let mut grpc = self.ready().await?;
        let codec = ProstCodec::<Line, Line>::default();
        grpc.streaming(Request::new(lines), PathAndQuery::from_static(CHAT), codec).await
    }

    async fn ready(&self) -> Result<tonic::client::Grpc<Channel>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
        Ok(grpc)
    }
}

/// The server, ended when dropped.
pub(crate) struct Server {
    lines: Lines,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    end: Arc<Notify>,
}

impl Server {
    pub(crate) fn start(host: &Host, port: u16) -> Result<Self> {
        let lines = Lines::default();
        let incoming = TcpListenerStream::new(listen(host, port)?);
        let server = tonic::transport::Server::builder().add_service(lines.clone());
        let end = Arc::new(Notify::new());
        let ended = end.clone().notified_owned();
        let task = tokio::spawn(server.serve_with_incoming_shutdown(incoming, ended));
        Ok(Self { lines, task, end })
    }

    /// The caller of the last request as the sidecar proved it.
    pub(crate) fn caller(&self) -> String {
        self.lines.caller.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes no calls any more.
    pub(crate) fn stop(&self) {
        self.end.notify_one();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone, Default)]
struct Lines {
    caller: Arc<Mutex<String>>,
}

impl NamedService for Lines {
    const NAME: &'static str = "weft.test.Lines";
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl tower::Service<http::Request<Body>> for Lines {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let caller = request.headers().get("x-forwarded-client-cert");
        let caller = caller.and_then(|value| value.to_str().ok()).unwrap_or_default();
        caller.clone_into(&mut self.caller.lock().unwrap_or_else(PoisonError::into_inner));
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Line, Line>::default());
            Ok(match request.uri().path() {
                UPPER => grpc.unary(Upper, request).await,
                CHAT => grpc.streaming(Chat, request).await,
                path => Status::unimplemented(path).into_http(),
            })
        })
    }
}

struct Upper;

impl UnaryService<Line> for Upper {
    type Response = Line;
    type Future = BoxFuture<Result<Response<Line>, Status>>;

    fn call(&mut self, request: Request<Line>) -> Self::Future {
        Box::pin(async move {
            let line = request.get_ref();
            if line.text == "fail" {
                return Err(unlucky());
            }
            let mut answer = Response::new(Line::of(&line.text.to_uppercase()));
            if let Some(asked) = request.metadata().get("x-asked") {
                answer.metadata_mut().insert("x-answered", asked.clone());
            }
            Ok(answer)
        })
    }
}

struct Chat;

impl StreamingService<Line> for Chat {
    type Response = Line;
    type ResponseStream = ReceiverStream<Result<Line, Status>>;
    type Future = BoxFuture<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Line>>) -> Self::Future {
        Box::pin(async move {
            let mut lines = request.into_inner();
            let (sender, receiver) = mpsc::channel(1);
            // Ends with the stream.
            tokio::spawn(async move {
                let mut counted = 0;
                while let Ok(Some(line)) = lines.message().await {
                    let answer = if line.text == "fail" { Err(unlucky()) } else { Ok(line) };
                    if sender.send(answer).await.is_err() {
                        return;
                    }
                    counted += 1;
                }
                let mut end = Status::ok("");
                end.metadata_mut().insert("x-counted", counted.into());
                let _ = sender.send(Err(end)).await;
            });
            Ok(Response::new(ReceiverStream::new(receiver)))
        })
    }
}

fn unlucky() -> Status {
    let mut status = Status::failed_precondition("no: ünlucky");
    status.metadata_mut().insert("x-why", tonic::metadata::MetadataValue::from_static("asked for"));
    status
}
