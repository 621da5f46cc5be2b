//! The filter loop: down in the order of the configuration, up in reverse.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use weft_filter_api::{
    Flow, LocalReply, RATE_LIMITS, RouteFilterConfig, RouteRateLimits, StreamCx, Waiting,
};
use weft_model::{ClusterChoice, HttpFilterEntry, Route, RouteAction};
use weft_telemetry::LogRecord;

use crate::manager::{Answer, local};
use crate::stream::{RequestProgress, Stream};
use crate::timer::{Expired, StreamTimer};
use crate::{forward, io};

/// What has to be known of a request when its response passes.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// It is HEAD: the response has no body.
    pub(crate) head: bool,
    /// It is gRPC.
    pub(crate) grpc: bool,
}

/// Lets the filters see a request; gives the reply of the first that ends it.
pub(crate) async fn down(
    entries: &[HttpFilterEntry],
    stream: &mut Stream,
    route: Option<&Route>,
) -> Option<LocalReply> {
    for entry in entries {
        if !entry.sees_requests || !runs(entry, route) {
            continue;
        }
        if entry.uses_io {
            io::open_request(stream);
        }
        if entry.reads_route {
            show_route(&mut stream.cx, route);
        }
        let config = config(entry, route);
        let Stream { cx, head, timer, progress, .. } = stream;
        let seen = match entry.filter.request(cx, head, config) {
            Flow::Continue => continue,
            Flow::Reply(reply) => return Some(reply),
            Flow::Await(waiting) => within(waiting, timer, progress.as_ref()).await,
        };
        match seen {
            Ok(None) => {}
            Ok(reply) => return reply,
            Err(expired) => return Some(forward::expired(expired, stream)),
        }
    }
    if stream.cx.opened.is_some() {
        io::close_request(stream);
    }
    None
}

/// Lets the filters see the response.
pub(crate) async fn up(
    entries: &[HttpFilterEntry],
    stream: &mut Stream,
    answer: &mut Answer,
    route: Option<&Route>,
    asked: Asked,
) {
    let mut opened = false;
    for entry in entries.iter().rev() {
        if !entry.sees_responses || !runs(entry, route) {
            continue;
        }
        if entry.uses_io && !opened {
            opened = true;
            io::open_response(stream, answer, asked.head);
        }
        let config = config(entry, route);
        let Stream { cx, timer, progress, .. } = stream;
        let seen = match entry.filter.response(cx, &mut answer.head, config) {
            Flow::Continue => continue,
            Flow::Reply(reply) => Ok(Some(reply)),
            Flow::Await(waiting) => within(waiting, timer, progress.as_ref()).await,
        };
        let reply = match seen {
            Ok(None) => continue,
            Ok(Some(reply)) => reply,
            Err(expired) => forward::expired(expired, stream),
        };
        io::drop_response(stream);
        *answer = *local(stream, reply, asked.grpc);
        return;
    }
    if opened {
        io::close_response(stream, answer);
    }
}

/// Tells the filters that a stream has ended.
pub(crate) fn finished(
    entries: &[HttpFilterEntry],
    cx: &StreamCx,
    record: &LogRecord<'_>,
    route: Option<&Route>,
) {
    for entry in entries {
        if entry.filter.sees_ends() && runs(entry, route) {
            entry.filter.finished(cx, record, config(entry, route));
        }
    }
}

/// Tells a filter where the route leads, and its limits.
fn show_route(cx: &mut StreamCx, route: Option<&Route>) {
    let Some(route) = route else { return };
    if let Some(limits) = route.filter(RATE_LIMITS) {
        cx.state.insert(RouteRateLimits(limits.clone()));
    }
    if let RouteAction::Forward(action) = &route.action
        && let ClusterChoice::One(slot) = &action.clusters
    {
        cx.cluster = Some(Arc::clone(slot.name()));
    }
}

/// Waits for a filter within the time limits of the stream; frames that arrive count as activity.
async fn within(
    mut waiting: Waiting<'_>,
    timer: &mut StreamTimer,
    progress: Option<&Rc<RequestProgress>>,
) -> Result<Option<LocalReply>, Expired> {
    let mut seen = progress.map_or(0, |progress| progress.frames.get());
    poll_fn(|cx| {
        if let Poll::Ready(done) = waiting.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        if let Some(progress) = progress {
            if std::mem::replace(&mut seen, progress.frames.get()) != seen {
                timer.touch();
            }
            if progress.ended.get() {
                timer.limit_request(None);
            }
        }
        timer.poll(cx).map(Err)
    })
    .await
}

fn config<'a>(entry: &HttpFilterEntry, route: Option<&'a Route>) -> Option<&'a RouteFilterConfig> {
    route.filter(|route| !route.filters.is_empty())?.filter(&entry.name)
}

fn runs(entry: &HttpFilterEntry, route: Option<&Route>) -> bool {
    if entry.disabled {
        return config(entry, route).is_some();
    }
    route.is_none_or(|route| route.disabled_filters.is_empty() || !route.disables(&entry.name))
}
