//! The call of the discovery service over a transport.

use std::sync::Arc;

use futures_util::{
    FutureExt, Stream, StreamExt, TryFutureExt, TryStreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint},
};
use weft_xds_ads::{
    ClientProtocol,
    client::{DeltaClient, SotwClient},
};
use weft_xds_proto::pb::envoy::service::{
    discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
};

use crate::{ClientConfig, Service, Transport, TransportError};

type Calling<R> = BoxFuture<'static, Result<Response<Streaming<R>>, Status>>;

/// A variant of the protocol with its method of the service.
pub(crate) trait Rpc: ClientProtocol {
    fn call(
        service: Service,
        channel: Channel,
        requests: Request<ReceiverStream<Self::Request>>,
    ) -> Calling<Self::Response>;
}

impl Rpc for DeltaClient {
    fn call(
        service: Service,
        channel: Channel,
        requests: Request<ReceiverStream<Self::Request>>,
    ) -> Calling<Self::Response> {
        match service {
            Service::Aggregated => {
                let mut client = aggregated(channel);
                async move { client.delta_aggregated_resources(requests).await }.boxed()
            }
            Service::Secrets => {
                let mut client = secrets(channel);
                async move { client.delta_secrets(requests).await }.boxed()
            }
        }
    }
}

impl Rpc for SotwClient {
    fn call(
        service: Service,
        channel: Channel,
        requests: Request<ReceiverStream<Self::Request>>,
    ) -> Calling<Self::Response> {
        match service {
            Service::Aggregated => {
                let mut client = aggregated(channel);
                async move { client.stream_aggregated_resources(requests).await }.boxed()
            }
            Service::Secrets => {
                let mut client = secrets(channel);
                async move { client.stream_secrets(requests).await }.boxed()
            }
        }
    }
}

fn aggregated(channel: Channel) -> AggregatedDiscoveryServiceClient<Channel> {
    AggregatedDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

fn secrets(channel: Channel) -> SecretDiscoveryServiceClient<Channel> {
    SecretDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("no connection within {} s", .0.as_secs_f32())]
    Timeout(std::time::Duration),
    #[error("HTTP/2: {0}")]
    Http(String),
}

/// What comes over a stream.
pub(crate) enum Inbound<R> {
    /// The server took the call.
    Opened,
    Message(R),
}

/// Opens a connection and calls the service with `requests`.
pub(crate) async fn open<P: Rpc>(
    transport: &Arc<dyn Transport>,
    config: &ClientConfig,
    requests: mpsc::Receiver<P::Request>,
) -> Result<BoxStream<'static, Result<Inbound<P::Response>, Status>>, RpcError> {
    let mut call = Request::new(ReceiverStream::new(requests));
    *call.metadata_mut() = transport.metadata()?;
    let channel = connect(transport, config).await?;
    Ok(P::call(config.service, channel, call).map_ok(inbound).try_flatten_stream().boxed())
}

/// Opens a connection on which calls can be made.
pub(crate) async fn connect(
    transport: &Arc<dyn Transport>,
    config: &ClientConfig,
) -> Result<Channel, RpcError> {
    let connecting = tokio::time::timeout(config.connect_timeout, transport.connect());
    let io = connecting.await.map_err(|_| RpcError::Timeout(config.connect_timeout))??;
    channel(transport.authority(), config, io).await
}

fn inbound<R: Send + 'static>(
    response: Response<Streaming<R>>,
) -> impl Stream<Item = Result<Inbound<R>, Status>> {
    let messages = response.into_inner().map_ok(Inbound::Message);
    stream::once(ready(Ok(Inbound::Opened))).chain(messages)
}

/// An HTTP/2 connection over `io`.
async fn channel(
    authority: http::Uri,
    config: &ClientConfig,
    io: crate::BoxedIo,
) -> Result<Channel, RpcError> {
    // The channel would open a new connection when this one fails. That is not its decision:
    // the connector has one to give, and the driver asks the transport for the next.
    let mut io = Some(TokioIo::new(io));
    let connector = tower::service_fn(move |_: http::Uri| {
        ready(io.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("http://control-plane")
        .origin(authority)
        .http2_keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect_with_connector(connector)
        .await
        .map_err(|error| RpcError::Http(chain(&error)))
}

/// Bytes under way before the server waits: a first push of many resources in few round trips.
const WINDOW: u32 = 1 << 20;

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
