//! HTTP/2: small replies, and gRPC messages that come back.

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpStream;

const BODY: &[u8] = b"Hello, world!";

/// Answers each request at once.
pub(super) async fn serve(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_request, mut respond) = request?;
        let response = Response::builder().header("content-type", "text/plain").body(());
        let Ok(response) = response else { continue };
        if let Ok(mut body) = respond.send_response(response, false) {
            drop(body.send_data(Bytes::from_static(BODY), true));
        }
    }
    Ok(())
}

/// Sends each message back, and the status once the client has sent its last.
pub(super) async fn serve_grpc(stream: TcpStream) -> Result<(), h2::Error> {
    let mut connection = handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        let body = request.into_body();
        // A client that goes away ends its stream and nothing else.
        tokio::spawn(async move { drop(messages(body, respond).await) });
    }
    Ok(())
}

async fn messages(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let first = body.data().await;
    let mut response = Response::new(());
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", content_type);
    let mut send = respond.send_response(response, false)?;
    let mut next = first;
    while let Some(data) = next {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if !data.is_empty() {
            send.send_data(data, false)?;
        }
        next = body.data().await;
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers)
}

async fn handshake(
    stream: TcpStream,
) -> Result<h2::server::Connection<TcpStream, Bytes>, h2::Error> {
    h2::server::Builder::new()
        .max_concurrent_streams(1000)
        .initial_connection_window_size(1 << 20)
        .handshake(stream)
        .await
}
