//! Connections that have changed their protocol, such as WebSocket: bytes are carried both ways.

use tokio::task::spawn_local;
use weft_codec::{Upgraded, Upgrading};
use weft_net::{Phase, RelayCounters, RelayEnd, Side, relay};
use weft_telemetry::ResponseFlag;
use weft_upstream::UpstreamBody;

use crate::stream::{End, Stream};

/// What it is called when the upstream ends a connection that left HTTP.
const UPSTREAM_ENDED: &str = "upstream_reset_after_response_started{connection_termination}";

/// Joins client and upstream once the client has been told.
pub(crate) fn start(client: Option<Upgrading>, mut body: UpstreamBody, mut stream: Box<Stream>) {
    let (Some(client), Some(upstream)) = (client, body.upgrade()) else {
        stream.cx.fail(ResponseFlag::UpstreamProtocolError, "upgrade_failed");
        return;
    };
    stream.connection.manager.stats.cx_upgrades_total.inc();
    spawn_local(async move {
        match (client.await, upstream.await) {
            (Ok(client), Ok(upstream)) => join(client, upstream, &mut stream).await,
            (Err(_), _) => stream.cx.fail(
                ResponseFlag::DownstreamConnectionTermination,
                "downstream_remote_disconnect",
            ),
            (_, Err(_)) => {
                stream.cx.fail(ResponseFlag::UpstreamConnectionTermination, UPSTREAM_ENDED);
            }
        }
        // The upstream's exchange counts as active until here.
        drop(body);
    });
}

async fn join(mut client: Upgraded, mut upstream: Upgraded, stream: &mut Stream) {
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
    if let Some(RelayEnd::SecondClosed | RelayEnd::SecondFailed(_)) = end {
        stream.cx.flags.set(ResponseFlag::UpstreamConnectionTermination);
        stream.cx.details = UPSTREAM_ENDED.into();
    }
    stream.sent = counters.backward.get();
    stream.end = End::Whole;
}
