//! Connections that have changed their protocol, such as WebSocket: bytes are carried both ways.

use tokio::task::spawn_local;
use weft_codec::{Upgraded, Upgrading};
use weft_net::{Phase, RelayCounters, Side, relay};
use weft_telemetry::ResponseFlag;
use weft_upstream::UpstreamBody;

use crate::stream::Stream;

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
            (_, Err(_)) => stream.cx.fail(
                ResponseFlag::UpstreamConnectionTermination,
                "upstream_reset_after_response_started{connection_termination}",
            ),
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
    tokio::select! {
        biased;
        _ = relay(Side::new(&mut client), Side::new(&mut upstream), idle, &timers, &counters) => {}
        () = watch.reached(Phase::Forced) => {}
    }
    stream.sent = counters.backward.get();
    stream.complete = true;
}
