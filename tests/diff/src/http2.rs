//! HTTP/2 at both ends, by the h2 crate.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::TcpStream;

use crate::case::Case;
use crate::http1::{Message, Reader};
use crate::upstream::{Reply, Script, Then};

/// A client's connection.
pub(crate) struct Client {
    sender: h2::client::SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // Its end is seen by the streams.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Sends a case's request; the error is h2's where the stream or the connection was ended.
    pub(crate) async fn send(&mut self, case: &Case, request: &str) -> Result<Message> {
        let (method, path) = request.split_once(' ').context("a method and a path")?;
        let tunnel = method == "CONNECT" && case.protocol.is_none();
        let uri = if tunnel { case.host.clone() } else { format!("http://{}{path}", case.host) };
        let mut head = Request::builder().method(method).uri(uri);
        for (name, value) in parse(&case.headers)? {
            head = head.header(name, value);
        }
        if let Some(body) = case.body.as_ref().filter(|_| method != "CONNECT") {
            head = head.header("content-length", body.len());
        }
        if let Some(protocol) = &case.protocol {
            head = head.extension(h2::ext::Protocol::from(protocol.as_str()));
            // The server has to say first that it may be sent.
            let told = || {
                let told = self.sender.is_extended_connect_protocol_enabled();
                async move { told.then_some(()).context("SETTINGS_ENABLE_CONNECT_PROTOCOL") }
            };
            weft_testkit::until("the server's settings", told).await?;
        }
        let ends = case.body.is_none() && case.trailers.is_empty();
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(head.body(())?, ends)?;
        if let Some(body) = &case.body {
            stream.send_data(Bytes::copy_from_slice(body.as_bytes()), case.trailers.is_empty())?;
        }
        if !case.trailers.is_empty() {
            stream.send_trailers(map(&case.trailers)?)?;
        }
        received(response.await?).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn received(response: Response<h2::RecvStream>) -> Result<Message> {
    let (head, mut body) = response.into_parts();
    let mut message = Message {
        first: format!("HTTP/2 {}", head.status.as_u16()),
        headers: lines(&head.headers),
        framing: "stream",
        ..Message::default()
    };
    while let Some(data) = body.data().await {
        let data = match data {
            Ok(data) => data,
            Err(error) => {
                message.trailers.push(("(ended by)".to_owned(), reason(&error)));
                return Ok(message);
            }
        };
        body.flow_control().release_capacity(data.len())?;
        message.body.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        message.trailers = lines(&trailers);
    }
    message.whole = true;
    Ok(message)
}

/// How h2 says that a stream or connection was ended.
pub(crate) fn reason(error: &h2::Error) -> String {
    match error.reason() {
        Some(reason) if error.is_go_away() => format!("GOAWAY {reason:?}"),
        Some(reason) => format!("{reason:?}"),
        None => "the connection's end".to_owned(),
    }
}

/// Answers the requests of one connection.
pub(crate) async fn serve(stream: TcpStream, script: &Script) -> Result<()> {
    let mut server = h2::server::Builder::new();
    let mut connection = server.enable_connect_protocol().handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let script = script.clone();
        tokio::spawn(async move { drop(answer(request, respond, &script).await) });
    }
    Ok(())
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    script: &Script,
) -> Result<()> {
    let (head, body) = request.into_parts();
    let mut tunnel = None;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut message = Message {
        first: format!("{} {path} HTTP/2", head.method),
        headers: lines(&head.headers),
        framing: "stream",
        ..Message::default()
    };
    let scheme = head.uri.scheme_str().unwrap_or_default().to_owned();
    let authority = head.uri.authority().map_or("", |authority| authority.as_str()).to_owned();
    message.headers.push((":scheme".to_owned(), scheme));
    if let Some(protocol) = head.extensions.get::<h2::ext::Protocol>() {
        message.headers.push((":protocol".to_owned(), protocol.as_str().to_owned()));
    }
    message.headers.push((":authority".to_owned(), authority));
    if head.method == http::Method::CONNECT {
        // What follows is sent once the tunnel is there.
        message.whole = true;
        tunnel = Some(body);
    } else {
        read(body, &mut message).await;
    }
    script.saw(message);
    let Reply { bytes, then } = script.answer(&path);
    match then {
        Then::Reset => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Then::Silence => std::future::pending().await,
        Then::KeepOpen | Then::Close => send(&bytes, respond).await?,
    }
    if let Some(body) = tunnel {
        read(body, &mut Message::default()).await;
    }
    Ok(())
}

async fn read(mut body: h2::RecvStream, into: &mut Message) {
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        // A failure here ends the stream, which the next read tells.
        let _ = body.flow_control().release_capacity(data.len());
        into.body.extend_from_slice(&data);
    }
    if let Ok(Some(trailers)) = body.trailers().await {
        into.trailers = lines(&trailers);
    }
    into.whole = true;
}

/// Sends an answer that is written as HTTP/1.
async fn send(bytes: &str, mut respond: h2::server::SendResponse<Bytes>) -> Result<()> {
    let reply = Reader::new(bytes.as_bytes()).response(false).await?.context("a reply")?;
    let mut response = Response::builder().status(reply.status().context("a status")?);
    for (name, value) in &reply.headers {
        if !name.eq_ignore_ascii_case("transfer-encoding") {
            response = response.header(name, value);
        }
    }
    let ends = reply.body.is_empty() && reply.trailers.is_empty();
    let mut stream = respond.send_response(response.body(())?, ends)?;
    if !reply.body.is_empty() {
        stream.send_data(Bytes::from(reply.body), reply.trailers.is_empty())?;
    }
    if !reply.trailers.is_empty() {
        let trailers: Vec<_> =
            reply.trailers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        stream.send_trailers(map(&trailers)?)?;
    }
    Ok(())
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn parse(lines: &[String]) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let split = |line: &String| {
        let (name, value) = line.split_once(':').context("name: value")?;
        Ok((HeaderName::try_from(name)?, HeaderValue::try_from(value.trim())?))
    };
    lines.iter().map(split).collect()
}

fn map(lines: &[String]) -> Result<HeaderMap> {
    Ok(parse(lines)?.into_iter().collect())
}
