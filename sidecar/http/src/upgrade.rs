//! Exchanges that leave HTTP, such as WebSocket and CONNECT: bytes are carried both ways.

use http::StatusCode;
use http::header::{CONNECTION, UPGRADE};
use http::response::Parts as ResponseHead;
use tokio::task::spawn_local;
use weft_codec::{CodecError, Incoming, Upgraded, Upgrading};
use weft_net::{Phase, RelayCounters, RelayEnd, Side, relay};
use weft_telemetry::ResponseFlag;
use weft_upstream::{UpstreamBody, UpstreamStream};

use crate::body::ReplyBody;
use crate::stream::{End, Stream};
use crate::tunnel::{self, Exchanged, Writer};

/// What it is called when the upstream ends a connection that left HTTP.
const UPSTREAM_ENDED: &str = "upstream_reset_after_response_started{connection_termination}";

/// The client's side.
pub(crate) enum Near {
    /// A connection that leaves HTTP/1 with the response.
    Connection(Upgrading),
    /// A stream of HTTP/2: what it receives.
    Stream(Incoming),
}

/// The upstream's side.
#[derive(Debug)]
pub(crate) enum Far {
    /// A connection that has left HTTP/1.
    Connection(UpstreamBody),
    /// A stream of HTTP/2.
    Stream(UpstreamBody, Writer),
    /// A connection that never spoke HTTP.
    Raw(UpstreamStream),
}

impl Far {
    /// The stream of bytes, and what has to live as long: the upstream's exchange counts as active
    /// until then.
    pub(crate) async fn open(self) -> Result<(Upgraded, Option<UpstreamBody>), CodecError> {
        match self {
            Self::Connection(mut body) => match body.upgrade() {
                Some(stream) => Ok((stream.await?, Some(body))),
                None => Err(CodecError::Closed),
            },
            Self::Stream(body, writer) => Ok((Upgraded::new(Exchanged::new(body, writer)), None)),
            Self::Raw(stream) => Ok((Upgraded::new(stream), None)),
        }
    }
}

/// A good answer to an upgrade in the form that HTTP/2 has for it (RFC 8441, 5).
pub(crate) fn as_stream(head: &mut ResponseHead) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        head.status = StatusCode::OK;
    }
    head.headers.remove(UPGRADE);
    head.headers.remove(CONNECTION);
}

/// Joins client and upstream once the client has been told; gives the body of the response.
pub(crate) fn start(near: Option<Near>, far: Box<Far>, mut stream: Box<Stream>) -> ReplyBody {
    let (client, reply) = match near {
        Some(Near::Connection(client)) => (client, ReplyBody::detached()),
        Some(Near::Stream(incoming)) => {
            let (writer, feed) = tunnel::pipe();
            let client = Upgraded::new(Exchanged::new(incoming, writer));
            (Upgrading::from(client), ReplyBody::tunnel(Box::pin(feed)))
        }
        None => {
            stream.cx.fail(ResponseFlag::UpstreamProtocolError, "upgrade_failed");
            return ReplyBody::detached();
        }
    };
    stream.connection.manager.stats.cx_upgrades_total.inc();
    spawn_local(async move {
        let http1 = matches!(*far, Far::Connection(_));
        match (client.await, far.open().await) {
            (Ok(client), Ok((upstream, held))) => {
                join(client, upstream, http1, &mut stream).await;
                drop(held);
            }
            (Err(_), _) => stream.cx.fail(
                ResponseFlag::DownstreamConnectionTermination,
                "downstream_remote_disconnect",
            ),
            (_, Err(_)) => {
                stream.cx.fail(ResponseFlag::UpstreamConnectionTermination, UPSTREAM_ENDED);
            }
        }
    });
    reply
}

/// Carries bytes; `http1`: the upstream's connection has left HTTP, so that its end is no good one, as
/// Envoy has it.
async fn join(mut client: Upgraded, mut upstream: Upgraded, http1: bool, stream: &mut Stream) {
    let counters = RelayCounters::default();
    let mut watch = stream.connection.drain.watch();
    let timers = stream.connection.worker.timers.clone();
    let idle = stream.timer.idle();
    let ends = relay(Side::new(&mut client), Side::new(&mut upstream), idle, &timers, &counters);
    let end = tokio::select! {
        biased;
        end = ends => Some(end),
        () = watch.reached(Phase::Forced) => None,
    };
    let cut_off = match end {
        Some(RelayEnd::SecondClosed) => http1,
        Some(RelayEnd::SecondFailed(_)) => true,
        _ => false,
    };
    if cut_off {
        stream.cx.flags.set(ResponseFlag::UpstreamConnectionTermination);
        stream.cx.details = UPSTREAM_ENDED.into();
    }
    stream.sent = counters.backward.get();
    stream.received(counters.forward.get());
    stream.end = End::Whole;
}
