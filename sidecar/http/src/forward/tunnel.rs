//! Tries to open a tunnel.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, UPGRADE};
use http::response::Parts as ResponseHead;
use http::{Response, StatusCode};
use weft_filter_api::LocalReply;
use weft_upstream::UpstreamBody;

use super::failure::Failure;
use super::hash;
use super::retry::Retries;
use super::source::Tunnel;
use super::tries::{Tries, within};
use crate::manager::{Answer, AnswerBody};
use crate::stream::Stream;
use crate::upgrade::Far;

impl Tries<'_> {
    /// What an upstream's response makes of a request for a tunnel; the head becomes that which
    /// HTTP/1.1 has for it.
    pub(super) fn tunnel(
        &self,
        head: &mut ResponseHead,
        body: UpstreamBody,
        streams: bool,
        tunnel: &Tunnel,
    ) -> AnswerBody {
        let agrees = if self.plan.kind.connect {
            head.status.is_success()
        } else {
            head.status == StatusCode::SWITCHING_PROTOCOLS || streams && head.status.is_success()
        };
        if !agrees {
            return AnswerBody::Upstream(body);
        }
        head.headers.remove(CONTENT_LENGTH);
        if !streams {
            return AnswerBody::Tunnel(Box::new(Far::Connection(body)));
        }
        if let Some(wanted) = &tunnel.wanted {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.headers.insert(UPGRADE, wanted.clone());
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        match tunnel.writer() {
            Some(writer) => AnswerBody::Tunnel(Box::new(Far::Stream(body, writer))),
            None => AnswerBody::Upstream(body),
        }
    }

    /// Connects to an endpoint without speaking HTTP to it: what CONNECT carries goes there as it
    /// is.
    pub(super) async fn connect(
        &self,
        stream: &mut Stream,
    ) -> Result<Box<Answer>, Box<LocalReply>> {
        let mut retries = Retries::new(self.retry);
        let hash = hash::of_request(&self.action.hash, &stream.head, stream.cx.remote).hash;
        loop {
            stream.cx.attempts += 1;
            let failure = match self.connect_once(stream, &mut retries, hash).await {
                Ok(far) => {
                    stream.timer.limit_try(None);
                    stream.response_began();
                    let (head, ()) = Response::new(()).into_parts();
                    return Ok(Box::new(Answer { head, body: AnswerBody::Tunnel(Box::new(far)) }));
                }
                Err(failure) => failure,
            };
            if retries.covers_failure(&failure) {
                match self.again(stream, &mut retries).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(expired) => return Err(self.give_up(stream, Failure::Expired(expired))),
                }
            }
            return Err(self.give_up(stream, failure));
        }
    }

    async fn connect_once(
        &self,
        stream: &mut Stream,
        retries: &mut Retries<'_>,
        hash: Option<u64>,
    ) -> Result<Far, Failure> {
        let picked = self.pick(stream, retries, hash)?;
        stream.cx.upstream_host = picked.address();
        stream.cx.upstream_local = None;
        retries.goes_to(picked.address());
        stream.begin_try();
        match within(stream, self.target.cluster.connect_tcp(&picked)).await {
            Ok(Ok(upstream)) => {
                stream.cx.upstream_local = upstream.local_address();
                Ok(Far::Raw(upstream))
            }
            Ok(Err(error)) => Err(Failure::Upstream(error)),
            Err(expired) => Err(Failure::Expired(expired)),
        }
    }
}
