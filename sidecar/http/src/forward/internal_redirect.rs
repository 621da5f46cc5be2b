//! Redirects that are followed here instead of by the client (`internal_redirect_policy`).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, LOCATION};
use http::request::Parts as RequestHead;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use weft_filter_api::{MessageBody, StreamIo};
use weft_model::{InternalRedirect, RedirectPredicate, Route};
use weft_route::Outcome;

use super::source::RequestSource;
use crate::inbound::{authority, set_authority, set_path};
use crate::manager::{Answer, Plan, view};
use crate::names;
use crate::stream::{End, Stream, copy_of};

/// Where a request was led so far.
#[derive(Clone, Debug, Default)]
struct Followed {
    count: u32,
    /// From which route to which.
    ways: Vec<(RouteName, RouteName)>,
}

type RouteName = Option<Arc<str>>;

/// Makes the request that a redirect asks for the stream's, so that it is handled once more; whether
/// it was possible. `sent`: the request as it was sent.
pub(super) fn follow(
    plan: &Plan<'_>,
    policy: &InternalRedirect,
    stream: &mut Stream,
    answer: &Answer,
    source: &RequestSource,
    sent: Option<&RequestHead>,
) -> bool {
    let next = next(plan, policy, stream, answer, source, sent);
    let outcome = if next.is_some() { "succeeded" } else { "failed" };
    stream.count_for_cluster(&format!("upstream_internal_redirect_{outcome}_total"));
    let Some((head, body)) = next else { return false };
    stream.head = head;
    stream.incoming = None;
    stream.cx.opened = (!body.is_empty()).then(|| {
        let callouts = plan.connection.worker.callouts.clone();
        Box::new(StreamIo::new(MessageBody::full(body), callouts))
    });
    stream.end = End::Again;
    stream.cx.cluster = None;
    stream.cx.upstream_host = None;
    stream.cx.upstream_local = None;
    true
}

/// The request that the redirect asks for; `None`: the redirect goes to the client.
fn next(
    plan: &Plan<'_>,
    policy: &InternalRedirect,
    stream: &mut Stream,
    answer: &Answer,
    source: &RequestSource,
    sent: Option<&RequestHead>,
) -> Option<(RequestHead, Bytes)> {
    let mut body = source.whole()?;
    let mut head = copy_of(sent?);
    let location = answer.head.headers.get(LOCATION)?.to_str().ok()?;
    let target: Uri = location.split('#').next()?.parse().ok()?;
    let target_https = match target.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let https = plan.kind.https;
    if !policy.cross_scheme && https != target_https {
        return None;
    }
    let mut followed = stream.cx.state.get::<Followed>().cloned().unwrap_or_default();
    if followed.count >= policy.max {
        return None;
    }
    let scheme = if https { "https" } else { "http" };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let original = HeaderValue::try_from(format!("{scheme}://{}{path}", authority(&head))).ok()?;
    copy_headers(policy, &answer.head.headers, &mut head.headers);
    set_authority(&mut head, &HeaderValue::from_str(target.authority()?.as_str()).ok()?);
    set_path(&mut head, target.path_and_query().map_or("/", |path| path.as_str()));
    let found = plan.routes.table.find(&view(&head, &stream.cx, https, plan.random));
    let Outcome::Route(_, route) = found else { return None };
    let accepts = |predicate| accepts(predicate, &followed, plan.route, route, https, target_https);
    if !policy.predicates.iter().all(accepts) {
        return None;
    }
    followed.count += 1;
    followed.ways.push((plan.route.name.clone(), route.name.clone()));
    stream.cx.state.insert(followed);
    if answer.head.status == StatusCode::SEE_OTHER
        && !matches!(head.method, Method::GET | Method::HEAD)
    {
        head.method = Method::GET;
        head.headers.remove(CONTENT_LENGTH);
        body = Bytes::new();
    }
    head.headers.insert(names::ENVOY_ORIGINAL_URL, original);
    Some((head, body))
}

/// The request takes over headers of the response; what that does not have is removed.
fn copy_headers(policy: &InternalRedirect, from: &HeaderMap, to: &mut HeaderMap) {
    for name in &policy.copied {
        to.remove(name);
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
}

fn accepts(
    predicate: &RedirectPredicate,
    followed: &Followed,
    from: &Route,
    to: &Route,
    https: bool,
    target_https: bool,
) -> bool {
    match predicate {
        RedirectPredicate::PreviousRoutes => {
            !followed.ways.iter().any(|(f, t)| *f == from.name && *t == to.name)
        }
        RedirectPredicate::AllowListed(names) => {
            let name = to.name.as_deref().unwrap_or_default();
            names.iter().any(|known| known == name)
        }
        RedirectPredicate::SafeCrossScheme => https || !target_https,
    }
}
