//! The client's end of a connection: no task, one exchange after the other. Whoever has the
//! connection drives it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{self, ReadBuffer, poll_leftover};
use super::chunks::Decoded;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::framing::{Fields, Framing, announced_length};
use super::head;
use super::scan::Scan;
use super::spelling::Spelling;
use super::write_head;
use super::writer::Writer;
use crate::{CodecError, SendFailed, Transport, Upgraded};

/// What is left to be done about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// Nothing: it was sent, or could not be.
    Done,
    /// Nothing of it was sent.
    Unsent,
    /// Its head is in the writer; its body is being sent.
    Body,
    /// All of it is in the writer.
    Flushing,
}

/// What is left to be done about the response.
#[derive(Debug)]
enum Receiving {
    Nothing,
    Head(Method),
    Body(Decoder),
}

/// A connection that requests are sent over, bodies of type `B`.
#[derive(Debug)]
pub struct ClientConnection<T, B> {
    io: T,
    buffer: ReadBuffer,
    scan: Scan,
    writer: Writer,
    encoder: Encoder,
    /// What is being sent; a head is large, and stays where it was put.
    request: Option<Request<B>>,
    sending: Sending,
    receiving: Receiving,
    spelling: Spelling,
    /// Whether the connection can serve another exchange when this one has ended.
    keep: bool,
}

impl<T, B> ClientConnection<T, B>
where
    T: Transport,
    B: Body<Data = Bytes> + Unpin,
{
    /// A connection over a transport that was just opened.
    pub fn new(io: T, spelling: Spelling) -> Self {
        Self {
            io,
            buffer: ReadBuffer::default(),
            scan: Scan::default(),
            writer: Writer::default(),
            encoder: Encoder::Done,
            request: None,
            sending: Sending::Done,
            receiving: Receiving::Nothing,
            spelling,
            keep: true,
        }
    }

    /// The transport below.
    pub fn transport(&self) -> &T {
        &self.io
    }

    /// Whether another exchange may begin: the last one has ended well, and the peer has neither
    /// left nor said anything since. Asks the system only if the runtime saw something happen.
    pub fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.is_reusable() && self.buffer.poll_fill(&mut self.io, &mut cx, 0).is_pending()
    }

    /// Whether the last exchange has left the connection fit for another one.
    pub fn is_reusable(&self) -> bool {
        self.keep && matches!((&self.sending, &self.receiving), (Sending::Done, Receiving::Nothing))
    }

    /// Begins an exchange. Nothing is sent before [`Self::poll_response`].
    pub fn start(&mut self, request: Request<B>) {
        self.receiving = Receiving::Head(request.method().clone());
        self.request = Some(request);
        self.sending = Sending::Unsent;
    }

    /// Sends the request and waits for the response's head; whichever comes first, an early
    /// response does not wait for the end of the request.
    ///
    /// # Errors
    /// With the request, if nothing of it was sent.
    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseParts, SendFailed<Request<B>>>> {
        if self.sending == Sending::Unsent {
            self.send_head(cx)?;
        }
        self.send(cx).map_err(failed)?;
        self.poll_head(cx).map_err(failed)
    }

    /// Writes the head.
    fn send_head(&mut self, cx: &mut Context<'_>) -> Result<(), SendFailed<Request<B>>> {
        self.sending = Sending::Done;
        let Some(request) = &mut self.request else { return Ok(()) };
        let framing = framing(request.headers(), request.body());
        write_head::request(self.writer.gather(), request, framing, self.spelling);
        self.encoder = Encoder::new(framing, request.headers(), true);
        if !request.body().is_end_stream() {
            self.sending = Sending::Body;
            buffers::keep_headers(std::mem::take(request.headers_mut()));
            return Ok(());
        }
        // Without a body it can be given back whole.
        match self.writer.poll_send(&mut self.io, cx) {
            Poll::Ready(Ok(())) => {
                buffers::keep_headers(std::mem::take(request.headers_mut()));
                self.request = None;
            }
            Poll::Pending => self.sending = Sending::Flushing,
            Poll::Ready(Err(error)) => {
                self.keep = false;
                let unsent = self.request.take().map(Box::new);
                return Err(SendFailed { error: error.into(), unsent });
            }
        }
        Ok(())
    }

    /// Goes on with sending, as far as that is possible now. A transport that takes no more is no
    /// error yet: the response may be there.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), CodecError> {
        loop {
            let waiting = match self.sending {
                Sending::Done | Sending::Unsent => return Ok(()),
                Sending::Flushing => false,
                Sending::Body => self.fill(cx)?,
            };
            match self.writer.poll_send(&mut self.io, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) if waiting => return Ok(()),
                Poll::Ready(Ok(())) => {
                    if self.sending == Sending::Flushing {
                        self.sent();
                    }
                }
                Poll::Ready(Err(_)) => {
                    self.keep = false;
                    self.sent();
                }
            }
        }
    }

    /// Nothing more of the request is sent.
    fn sent(&mut self) {
        self.sending = Sending::Done;
        self.request = None;
    }

    /// Takes frames of the body until there is enough to send; whether the body has to be waited
    /// for.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, CodecError> {
        let Some(request) = &mut self.request else { return Ok(false) };
        let body = request.body_mut();
        while self.writer.has_room() {
            if !body.is_end_stream() {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => return Ok(true),
                    Poll::Ready(Some(Ok(frame))) => {
                        self.encoder.frame(frame, self.spelling, &mut self.writer)?;
                        continue;
                    }
                    Poll::Ready(Some(Err(_))) => return Err(CodecError::Body),
                    Poll::Ready(None) => {}
                }
            }
            self.encoder.end(None, self.spelling, &mut self.writer)?;
            self.sending = Sending::Flushing;
            break;
        }
        Ok(false)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseParts, CodecError>> {
        loop {
            if !self.buffer.is_empty() {
                let spelling = self.spelling == Spelling::Preserved;
                let found = head::response(self.buffer.bytes(), &mut self.scan, spelling);
                match found.map_err(|wrong| CodecError::Malformed(wrong.into()))? {
                    // Nobody has asked for interim responses (RFC 9110, 15.2).
                    Some((head, _)) if is_interim(head.status) => continue,
                    Some((head, fields)) => return Poll::Ready(self.begin(head, &fields)),
                    None => {}
                }
            }
            if ready!(self.buffer.poll_fill(&mut self.io, cx, 0))? == 0 {
                return Poll::Ready(Err(match self.buffer.is_empty() {
                    true => CodecError::Closed,
                    false => cut_off("the connection ended within the response's head"),
                }));
            }
        }
    }

    /// The response's head is there.
    fn begin(&mut self, head: ResponseParts, fields: &Fields) -> Result<ResponseParts, CodecError> {
        let Receiving::Head(method) = &self.receiving else { return Err(CodecError::Closed) };
        let framing = fields.of_response(head.status, method);
        let (mut framing, clear) = framing.map_err(|wrong| CodecError::Malformed(wrong.into()))?;
        let switching = head.status == StatusCode::SWITCHING_PROTOCOLS
            || (*method == Method::CONNECT && head.status.is_success());
        if switching {
            framing = Framing::None;
        }
        let stays = !fields.close && (head.version == Version::HTTP_11 || fields.keep_alive);
        self.keep &= clear && stays && !switching;
        let decoder = Decoder::new(framing);
        if decoder.is_done() {
            self.received();
        } else {
            self.receiving = Receiving::Body(decoder);
        }
        Ok(head)
    }

    /// The response is whole.
    fn received(&mut self) {
        self.receiving = Receiving::Nothing;
        // A request that is not over is given up with its connection, and what is there already
        // is no answer to anything.
        self.keep &= self.sending == Sending::Done && self.buffer.is_empty();
        self.buffer.release();
    }

    /// The next frame of the response's body. The request is sent on meanwhile.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CodecError>>> {
        self.send(cx)?;
        loop {
            let Receiving::Body(decoder) = &mut self.receiving else { return Poll::Ready(None) };
            let frame = match decoder.decode(self.buffer.bytes()) {
                Ok(Decoded::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Decoded::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
                Ok(Decoded::End) => None,
                Ok(Decoded::More) => {
                    let expected = decoder.expected();
                    let count = ready!(self.buffer.poll_fill(&mut self.io, cx, expected))?;
                    if count == 0 && !decoder.end() {
                        let text = "the connection ended within the response's body";
                        return Poll::Ready(Some(Err(cut_off(text))));
                    }
                    continue;
                }
                Err(wrong) => Some(Err(CodecError::Malformed(wrong.into()))),
            };
            if decoder.is_done() {
                self.received();
            }
            return Poll::Ready(frame);
        }
    }

    /// Whether the response's body has ended.
    pub fn is_end_stream(&self) -> bool {
        matches!(self.receiving, Receiving::Nothing)
    }

    /// How much of the response's body is left.
    pub fn size_hint(&self) -> SizeHint {
        match &self.receiving {
            Receiving::Body(decoder) => {
                decoder.exact().map_or_else(SizeHint::new, SizeHint::with_exact)
            }
            Receiving::Nothing | Receiving::Head(_) => SizeHint::with_exact(0),
        }
    }

    /// The stream of bytes that the connection is after a response 101.
    pub fn into_upgraded(self) -> Upgraded
    where
        T: 'static,
    {
        Upgraded::new(Tunnel { io: self.io, buffer: self.buffer })
    }
}

/// A message that is not whole is none, as Envoy has it.
fn cut_off(text: &'static str) -> CodecError {
    CodecError::Malformed(text.into())
}

fn failed<T>(error: CodecError) -> SendFailed<T> {
    SendFailed { error, unsent: None }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn framing(headers: &HeaderMap, body: &impl Body) -> Framing {
    if body.is_end_stream() {
        return Framing::None;
    }
    match announced_length(headers).or_else(|| body.size_hint().exact()) {
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

/// A connection after HTTP.
struct Tunnel<T> {
    io: T,
    buffer: ReadBuffer,
}

impl<T: Transport> AsyncRead for Tunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match poll_leftover(&mut self.buffer, out) {
            Some(read) => read,
            None => Pin::new(&mut self.io).poll_read(cx, out),
        }
    }
}

impl<T: Transport> AsyncWrite for Tunnel<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
