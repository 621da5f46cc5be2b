//! Mirrored requests (`request_mirror_policies`): sent beside the real one, their answers ignored.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::request::Parts as RequestHead;
use http_body::Body;
use weft_model::{Forward, Mirror};
use weft_upstream::{PickContext, RequestBody, UpstreamResponse, WorkerCluster};

use super::choose::of_slot;
use super::prepare;
use super::source::RequestSource;
use crate::manager::Plan;

/// The longest body that is mirrored, bytes.
const LONGEST: usize = 1 << 20;
/// How long a mirrored exchange may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends copies of a request as soon as its body is there.
pub(super) fn start(plan: &Plan<'_>, action: &Forward, head: &RequestHead, source: &RequestSource) {
    for mirror in &action.mirrors {
        let random = fastrand::u64(..);
        if mirror.fraction.is_some_and(|fraction| !fraction.contains(random)) {
            continue;
        }
        let Some(cluster) = of_slot(plan, &mirror.cluster) else { continue };
        let head = copy(mirror, head);
        let send = move |body: Option<Bytes>| {
            if let Some(body) = body {
                tokio::task::spawn_local(exchange(cluster, head, body));
            }
        };
        source.collect(LONGEST, Box::new(send));
    }
}

fn copy(mirror: &Mirror, head: &RequestHead) -> RequestHead {
    let mut copy = head.clone();
    if !mirror.keep_host {
        prepare::shadow_host(&mut copy);
    }
    copy
}

/// Sends the copy and reads the answer to its end, so that the connection can be used again.
async fn exchange(cluster: Rc<WorkerCluster>, head: RequestHead, body: Bytes) {
    let body = if body.is_empty() { RequestBody::Empty } else { RequestBody::Full(body) };
    let sent = async {
        let picked = cluster.pick(&PickContext::default()).ok()?;
        let answer = cluster.send(&picked, Request::from_parts(head, body)).await.ok()?;
        drain(answer).await;
        Some(())
    };
    // Nobody waits for the answer; a failure shows in the cluster's statistics.
    let _ = tokio::time::timeout(PATIENCE, sent).await;
}

async fn drain(answer: Box<UpstreamResponse>) {
    let mut body = std::pin::pin!(answer.body);
    while let Some(Ok(_)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
}
