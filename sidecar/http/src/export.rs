//! Sends what a worker's connections have for collectors: spans and entries of access logs.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use weft_filter_api::{CalloutOptions, Callouts, Trailers};
use weft_telemetry::{Batch, batch_is_full, pending_batches};

use crate::worker::WorkerCx;

/// How often it is looked whether records have waited for long enough.
const TICK: Duration = Duration::from_millis(200);
/// The longest answer of a collector that is read, bytes.
const LONGEST: usize = 64 << 10;
/// How long the last batches may take.
const LAST: Duration = Duration::from_secs(2);

/// Sends batches as they become due, for as long as the worker lives.
pub async fn export(worker: Rc<WorkerCx>) {
    loop {
        // A batch that is full is due before the next tick.
        drop(timeout(TICK, batch_is_full()).await);
        for batch in pending_batches(Some(Instant::now())) {
            spawn_local(send(Rc::clone(worker.callouts()), batch));
        }
    }
}

/// Sends all that is left, at the end of the worker's life.
pub async fn export_rest(worker: &WorkerCx) {
    let all = async {
        for batch in pending_batches(None) {
            send(Rc::clone(worker.callouts()), batch).await;
        }
    };
    drop(timeout(LAST, all).await);
}

async fn send(callouts: Rc<dyn Callouts>, mut batch: Batch) {
    let options = CalloutOptions { timeout: batch.timeout, limit: LONGEST };
    let request = std::mem::take(&mut batch.request);
    let answer = callouts.send(&batch.cluster, request, options).await;
    let failure = match answer {
        Err(error) => Some(error.to_string()),
        Ok(answer) if !answer.status().is_success() => Some(answer.status().to_string()),
        Ok(answer) if batch.grpc => {
            let trailers = answer.extensions().get::<Trailers>().map(|trailers| &trailers.0);
            let status = trailers.unwrap_or(answer.headers()).get("grpc-status");
            let status = status.map_or("", |status| status.to_str().unwrap_or_default());
            (status != "0").then(|| format!("gRPC status {status:?}"))
        }
        Ok(_) => None,
    };
    if let Some(error) = &failure {
        tracing::debug!(cluster = batch.cluster, error, "a collector did not take a batch");
    }
    batch.done(failure.is_none());
}
