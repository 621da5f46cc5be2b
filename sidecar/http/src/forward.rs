//! The exchange with an upstream.

mod choose;
mod failure;
mod hash;
mod internal_redirect;
mod mirror;
mod prepare;
mod retry;
mod retry_headers;
mod service_time;
mod source;
mod timeouts;
mod tries;
mod tunnel;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use http::StatusCode;
use http::request::Parts as RequestHead;
use weft_filter_api::LocalReply;
use weft_model::Forward;
use weft_telemetry::ResponseFlag;

use crate::demand;
use crate::manager::{Answer, Plan, local};
use crate::stream::{Stream, copy_of};
use crate::timer::Expired;
use choose::Target;
use failure::Failure;
use source::RequestSource;
use tries::Tries;

pub(crate) use failure::{PER_TRY_IDLE, TRY_IDLE_COUNTER};
pub(crate) use hash::of_client;
pub(crate) use prepare::rewritten_path;
pub(crate) use timeouts::Limits;

/// The reply to a client whose request took too long before it went upstream or after its answer
/// came back.
pub(crate) fn expired(expired: Expired, stream: &mut Stream) -> LocalReply {
    Failure::Expired(expired).into_reply(stream)
}

/// Sends a request where its route says, and gives the upstream's answer or one of our own.
pub(crate) async fn forward(plan: &Plan<'_>, action: &Forward, stream: &mut Stream) -> Box<Answer> {
    let grpc = plan.kind.grpc;
    let Some(mut target) = choose::target(plan, action, &stream.head) else {
        return fetch_and_forward(plan, action, stream).await;
    };
    stream.cx.cluster = Some(target.cluster.handle().name().clone());
    if let Some(refusal) = refuse_upgrade(plan, action, &stream.head) {
        stream.log_request();
        return local(stream, refusal, grpc);
    }
    let limits = timeouts::limits(plan, action, stream);
    // Filters may have asked, too.
    let steered = plan.kind.steers || !plan.connection.manager.filters.is_empty();
    let route = action.retry.as_deref();
    let asked = steered.then(|| retry_headers::policy(&mut stream.head.headers, route)).flatten();
    let retry = asked.as_deref().or(route);
    prepare::request(plan, action, &target, stream);
    // The shorter one: a limit of one try is dropped where that of the exchange is not longer.
    if let Some(expected) = limits.one_try.or(limits.response) {
        timeouts::announce(&mut stream.head.headers, expected);
    }
    stream.log_request();
    if target.by_name
        && let Err(failure) = Box::pin(target.find_host(&stream.head)).await
    {
        let reply = failure.reply(stream);
        return local(stream, reply, grpc);
    }
    let follows = action.internal_redirect.as_deref();
    let kept = follows.is_some() || plan.response_reads_request(target.response_changes());
    let kept = kept.then(|| Box::new(copy_of(&stream.head)));
    let source = if plan.kind.tunnels() {
        RequestSource::tunnel(stream)
    } else {
        RequestSource::new(retry.is_some() || follows.is_some(), target.buffer_limit, stream)
    };
    stream.begin_exchange(limits);
    if !action.mirrors.is_empty() {
        mirror::start(plan, action, &stream.head, &source);
    }
    let tries = Tries { plan, action, target: &target, retry };
    let result = if plan.kind.connect && action.terminates {
        Box::pin(tries.connect(stream)).await
    } else {
        tries.run(stream, &source).await
    };
    match result {
        Ok(mut answer) => {
            if let Some(policy) = follows
                && policy.codes.contains(&answer.head.status.as_u16())
                && internal_redirect::follow(
                    plan,
                    policy,
                    stream,
                    &answer,
                    &source,
                    kept.as_deref(),
                )
            {
                return answer;
            }
            answer_came(plan, &target, stream, &mut answer, kept.as_deref());
            answer
        }
        Err(reply) => {
            if !stream.abandoned {
                target.cluster.handle().stats().count_status(reply.status.as_u16());
            }
            let mut answer = local(stream, *reply, grpc);
            plan.change_local(stream, &mut answer.head, kept.as_deref(), target.response_changes());
            answer
        }
    }
}

/// Has the missing cluster fetched where that is configured.
fn fetch_and_forward<'a>(
    plan: &'a Plan<'_>,
    action: &'a Forward,
    stream: &'a mut Stream,
) -> Pin<Box<dyn Future<Output = Box<Answer>> + 'a>> {
    Box::pin(async move {
        let timers = &plan.connection.worker.timers;
        if let Some(filter) = &plan.connection.manager.on_demand
            && let Some(name) = choose::name(plan, action, &stream.head)
            && demand::cluster(filter, plan.route, name, timers).await
        {
            return forward(plan, action, stream).await;
        }
        no_cluster(plan, action, stream)
    })
}

fn no_cluster(plan: &Plan<'_>, action: &Forward, stream: &mut Stream) -> Box<Answer> {
    stream.log_request();
    stream.connection.manager.stats.no_cluster.inc();
    stream.cx.flags.set(ResponseFlag::NoClusterFound);
    let reply = LocalReply::text(action.cluster_not_found, "", "cluster_not_found");
    let mut answer = local(stream, reply, plan.kind.grpc);
    plan.change_local(stream, &mut answer.head, Some(&stream.head), None);
    answer
}

fn answer_came(
    plan: &Plan<'_>,
    target: &Target<'_>,
    stream: &mut Stream,
    answer: &mut Answer,
    request: Option<&RequestHead>,
) {
    stream.cx.details = Cow::Borrowed("via_upstream");
    if plan.host.attempt_count_downstream {
        let count = http::HeaderValue::from(stream.cx.attempts);
        answer.head.headers.insert(crate::names::ENVOY_ATTEMPT_COUNT, count);
    }
    plan.change_response(stream, &mut answer.head, request, target.response_changes());
}

/// The reply to an upgrade that is not allowed (`upgrade_configs`).
fn refuse_upgrade(plan: &Plan<'_>, action: &Forward, head: &RequestHead) -> Option<LocalReply> {
    let wanted = if plan.kind.upgrade {
        head.headers.get(http::header::UPGRADE)?.to_str().ok()?
    } else if plan.kind.connect {
        "connect"
    } else {
        return None;
    };
    let same = |name: &str| name.eq_ignore_ascii_case(wanted);
    let by_route = action.upgrades.iter().find(|(name, _)| same(name)).map(|(_, on)| *on);
    let upgrades = &plan.connection.manager.upgrades;
    let allowed = by_route.unwrap_or_else(|| upgrades.iter().any(|name| same(name)));
    (!allowed).then(|| LocalReply::text(StatusCode::FORBIDDEN, "", "upgrade_failed"))
}
