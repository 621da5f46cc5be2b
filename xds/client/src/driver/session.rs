//! One stream, from the attempt to its end.

use std::{collections::VecDeque, future::pending, pin::Pin, sync::Arc};

use futures_util::StreamExt;
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use super::state::State;
use crate::{
    ClientConfig, Transport,
    backoff::Waits,
    rpc::{self, Inbound, Rpc},
};

/// Requests that may wait for the connection.
const QUEUE: usize = 16;

/// How a stream ended.
pub(super) struct Ended {
    /// Whether the server answered at least once.
    pub(super) answered: bool,
    pub(super) reason: String,
}

pub(super) async fn run<P: Rpc>(
    state: &mut State<P>,
    transport: &Arc<dyn Transport>,
    config: &ClientConfig,
) -> Ended {
    let mut answered = false;
    let reason = match talk(state, transport, config, &mut answered).await {
        Ok(()) => "the server closed the stream".to_owned(),
        Err(reason) => reason,
    };
    Ended { answered, reason }
}

async fn talk<P: Rpc>(
    state: &mut State<P>,
    transport: &Arc<dyn Transport>,
    config: &ClientConfig,
    answered: &mut bool,
) -> Result<(), String> {
    let (sender, requests) = mpsc::channel(QUEUE);
    let opening = rpc::open::<P>(transport, config, requests);
    let shared = state.shared.clone();
    let mut inbound = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return Err("stopped".to_owned()),
        opened = opening => opened.map_err(|error| error.to_string())?,
    };
    state.machine.connected();
    let mut outbound = VecDeque::new();
    let mut writable = true;
    let mut waits = Waits::new(config.backoff);
    let mut pause = None;
    loop {
        if state.machine.holds_back() {
            pause.get_or_insert_with(|| Box::pin(sleep(waits.next())));
        }
        outbound.extend(std::iter::from_fn(|| state.machine.next_request()));
        // In this order: what is owed to the server first, then what it says, then the cache.
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Err("stopped".to_owned()),
            permit = sender.reserve(), if writable && !outbound.is_empty() => {
                match (permit, outbound.pop_front()) {
                    (Ok(permit), Some(request)) => permit.send(request),
                    // The call is over; the other direction knows why.
                    _ => writable = false,
                }
            }
            message = inbound.next() => match message {
                None => return Ok(()),
                Some(Err(status)) => return Err(describe(&status)),
                Some(Ok(Inbound::Opened)) => state.opened(),
                Some(Ok(Inbound::Message(response))) => {
                    *answered = true;
                    state.receive(response);
                    if !state.machine.holds_back() {
                        waits.reset();
                    }
                }
            },
            () = over(&mut pause) => {
                pause = None;
                state.machine.let_go();
            }
            () = state.lives.due() => state.expire(),
            () = shared.refresh.notified() => state.subscribe(),
            () = shared.blobs_changed.notified() => state.persist.changed(),
            earlier = state.persist.due() => state.write(earlier),
        }
    }
}

/// Waits for the end of a pause, if there is one.
async fn over(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => pending().await,
    }
}

fn describe(status: &tonic::Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => {
            format!("{:?}: {}: {}", status.code(), status.message(), rpc::chain(source))
        }
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}
