//! The tries of one request: choosing an endpoint, sending, and trying again where that is sound.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use http::header::SET_COOKIE;
use http::{HeaderValue, Request, StatusCode};
use weft_filter_api::{LocalReply, Protocol};
use weft_model::{Forward, RetryPolicy};
use weft_upstream::{PickContext, Picked, UpstreamResponse};

use super::choose::Target;
use super::failure::Failure;
use super::hash::Affinity;
use super::retry::Retries;
use super::source::RequestSource;
use super::{TRY_IDLE_COUNTER, hash, prepare, service_time};
use crate::manager::{Answer, AnswerBody, Plan};
use crate::names;
use crate::stream::Stream;
use crate::timer::Expired;
use crate::upgrade::Far;

/// The gRPC status of a call that took too long (gRPC, Status codes).
const DEADLINE_EXCEEDED: HeaderValue = HeaderValue::from_static("4");

/// Everything that the tries of a request have in common.
pub(super) struct Tries<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) action: &'a Forward,
    pub(super) target: &'a Target<'a>,
    /// The route's policy, with what the request has added.
    pub(super) retry: Option<&'a RetryPolicy>,
}

impl Tries<'_> {
    /// Tries until there is an answer or no try is left.
    pub(super) async fn run(
        &self,
        stream: &mut Stream,
        source: &RequestSource,
    ) -> Result<Box<Answer>, Box<LocalReply>> {
        let mut retries = Retries::new(self.retry);
        let Affinity { hash, cookie } = if self.action.hash.is_empty() {
            Affinity::default()
        } else {
            hash::of_request(&self.action.hash, &stream.head, stream.cx.remote)
        };
        loop {
            let spare = retries.is_left().then(|| Box::new(stream.head.clone()));
            stream.cx.attempts += 1;
            let result = self.once(stream, source, &mut retries, hash).await;
            let retry = match &result {
                Ok(answer) => retries.covers_response(answer.head.status, &answer.head.headers),
                Err(failure) => retries.covers_failure(failure),
            };
            if retry && source.can_repeat() {
                if let Ok(response) = &result {
                    retries.heed(&response.head.headers);
                }
                // The answer is held until it is clear that there will be another.
                match self.again(stream, &mut retries).await {
                    Ok(granted) => {
                        if let Some(head) = spare.filter(|_| granted) {
                            stream.head = *head;
                            continue;
                        }
                    }
                    Err(expired) => return Err(self.give_up(stream, Failure::Expired(expired))),
                }
            }
            return match result {
                Ok(response) => {
                    let mut answer = self.answer(stream, response, source, &retries);
                    if let Some(cookie) = cookie {
                        answer.head.headers.append(SET_COOKIE, cookie);
                    }
                    Ok(answer)
                }
                Err(failure) => Err(self.give_up(stream, failure)),
            };
        }
    }

    pub(super) async fn again(
        &self,
        stream: &mut Stream,
        retries: &mut Retries<'_>,
    ) -> Result<bool, Expired> {
        // Retrying is rare: its future is kept out of the one of every request.
        Box::pin(retries.again(&self.target.cluster, self.action.high_priority, stream)).await
    }

    /// One try.
    async fn once(
        &self,
        stream: &mut Stream,
        source: &RequestSource,
        retries: &mut Retries<'_>,
        hash: Option<u64>,
    ) -> Result<Box<UpstreamResponse>, Failure> {
        let picked = self.pick(stream, retries, hash)?;
        stream.cx.upstream_host = picked.address();
        stream.cx.upstream_local = None;
        retries.goes_to(picked.address());
        prepare::endpoint_host(self.action, picked.hostname(), &mut stream.head);
        if self.plan.host.attempt_count_upstream {
            let count = HeaderValue::from(stream.cx.attempts);
            stream.head.headers.insert(names::ENVOY_ATTEMPT_COUNT, count);
        }
        if let Some((span, head)) = stream.span() {
            span.begin_try(&mut head.headers);
        }
        let head = std::mem::replace(&mut stream.head, Request::new(()).into_parts().0);
        stream.begin_try();
        let sending = self.target.cluster.send(&picked, Request::from_parts(head, source.read()));
        let sent = within(stream, sending).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Failure::Upstream(error.error)),
            Err(expired) => {
                if matches!(expired, Expired::Response | Expired::Try | Expired::TryIdle) {
                    self.target.cluster.timed_out(&picked);
                }
                match expired {
                    Expired::Try => self.target.cluster.handle().stats().rq_per_try_timeout.inc(),
                    Expired::TryIdle => stream.count_for_cluster(TRY_IDLE_COUNTER),
                    _ => {}
                }
                return Err(Failure::Expired(expired));
            }
        };
        stream.timer.limit_try(None);
        stream.timer.touch();
        stream.cx.upstream_local = response.local;
        Ok(response)
    }

    pub(super) fn pick(
        &self,
        stream: &Stream,
        retries: &Retries<'_>,
        hash: Option<u64>,
    ) -> Result<Picked, Failure> {
        let facts = &stream.cx.connection;
        let head = &stream.head;
        let (avoid, host_attempts) = retries.avoid();
        let (avoid_canaries, avoid_labels) = retries.avoid_kinds();
        let host_header = self
            .target
            .destination_header
            .as_ref()
            .and_then(|name| head.headers.get(name)?.to_str().ok()?.parse().ok())
            .or(self.target.named);
        let sni = self.target.auto_sni.then(|| prepare::server_name(head)).flatten();
        let context = PickContext {
            hash,
            original_destination: facts.restored.then_some(facts.local),
            host_header,
            avoid,
            avoid_canaries,
            avoid_labels,
            host_attempts,
            downstream_protocol: Some(stream.cx.protocol),
            high_priority: self.action.high_priority,
            labels: self.target.weighted.map_or(&self.action.labels, |one| &one.labels).as_deref(),
            sni,
            connection: Some(facts),
            ..PickContext::default()
        };
        self.target.cluster.pick(&context).map_err(Failure::Upstream)
    }

    fn answer(
        &self,
        stream: &mut Stream,
        came: Box<UpstreamResponse>,
        source: &RequestSource,
        retries: &Retries<'_>,
    ) -> Box<Answer> {
        stream.response_began();
        if retries.is_retrying() && !retries.covers_response(came.head.status, &came.head.headers) {
            self.target.cluster.handle().stats().rq_retry_success.inc();
        }
        let place = Box::new_uninit();
        let UpstreamResponse { mut head, body, protocol, .. } = *came;
        if !self.plan.kind.tunnels() {
            let time = service_time::value(stream.service_time());
            head.headers.insert(names::ENVOY_SERVICE_TIME, time);
        }
        let body = match source {
            RequestSource::Tunnel(tunnel) => {
                self.tunnel(&mut head, body, protocol == Protocol::Http2, tunnel)
            }
            _ if self.plan.kind.upgrade && head.status == StatusCode::SWITCHING_PROTOCOLS => {
                AnswerBody::Tunnel(Box::new(Far::Connection(body)))
            }
            _ => AnswerBody::Upstream(body),
        };
        Box::write(place, Answer { head, body })
    }

    pub(super) fn give_up(&self, stream: &mut Stream, failure: Failure) -> Box<LocalReply> {
        if let Failure::Expired(Expired::Response) = failure {
            self.target.cluster.handle().stats().rq_timeout.inc();
        }
        let late = matches!(failure, Failure::Expired(Expired::Duration));
        let mut reply = failure.into_reply(stream);
        if late && self.plan.kind.grpc {
            reply.headers.insert(names::GRPC_STATUS, DEADLINE_EXCEEDED);
        }
        Box::new(reply)
    }
}

/// Waits for a future within the time limits of a stream.
pub(super) async fn within<F: Future>(
    stream: &mut Stream,
    future: F,
) -> Result<F::Output, Expired> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        stream.poll_timer(cx).map(Err)
    })
    .await
}
