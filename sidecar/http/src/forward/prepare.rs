//! Bringing a request's head into the form in which the upstream gets it.

use http::HeaderValue;
use http::request::Parts as RequestHead;
use weft_model::{Forward, HeaderMutations, HostRewrite, PathRewrite};

use super::choose::Target;
use crate::inbound::{authority, set_authority, set_path};
use crate::manager::Plan;
use crate::stream::Stream;
use crate::{mutate, names};

/// Applies header changes, then host and path rewrites.
pub(super) fn request(plan: &Plan<'_>, action: &Forward, target: &Target<'_>, stream: &mut Stream) {
    let head = &mut stream.head;
    let changes: [&HeaderMutations; 3] =
        [&plan.route.request_headers, &plan.host.request_headers, &plan.routes.request_headers];
    let weighted = target.weighted.map(|weighted| &weighted.request_headers);
    for changes in plan.in_order(weighted, changes) {
        if !changes.is_empty() {
            mutate::request(changes, head, &stream.cx);
        }
    }
    rewrite_host(action, target, head);
    rewrite_path(&action.path, head);
}

fn rewrite_host(action: &Forward, target: &Target<'_>, head: &mut RequestHead) {
    let weighted = target.weighted.and_then(|weighted| weighted.host_rewrite.as_deref());
    let new = match (weighted, &action.host) {
        (Some(host), _) => HeaderValue::from_str(host).ok(),
        (None, HostRewrite::Keep) => return,
        // The host of the endpoint is known with each try.
        (None, HostRewrite::Auto) => {
            append_forwarded_host(action, head);
            return;
        }
        (None, HostRewrite::Literal(host)) => HeaderValue::from_str(host).ok(),
        (None, HostRewrite::Header(name)) => head.headers.get(name).cloned(),
        (None, HostRewrite::PathRegex { pattern, substitution }) => {
            let host = pattern.replace_all(head.uri.path(), substitution.as_str());
            HeaderValue::from_str(&host).ok()
        }
    };
    if let Some(host) = new.filter(|host| !host.is_empty()) {
        append_forwarded_host(action, head);
        replace_host(head, &host);
    }
}

/// Gives the request another host and says what it was.
fn replace_host(head: &mut RequestHead, host: &HeaderValue) {
    let before = authority(head);
    if before.as_bytes() == host.as_bytes() {
        return;
    }
    if let Ok(before) = HeaderValue::from_str(before) {
        head.headers.insert(names::ENVOY_ORIGINAL_HOST, before);
    }
    set_authority(head, host);
}

/// `append_x_forwarded_host`
fn append_forwarded_host(action: &Forward, head: &mut RequestHead) {
    if !action.append_x_forwarded_host {
        return;
    }
    let known = head.headers.get(names::X_FORWARDED_HOST).and_then(|value| value.to_str().ok());
    let host = authority(head);
    let value = match known {
        Some(known) if known.rsplit(',').next().is_some_and(|last| last.trim() == host) => return,
        Some(known) => HeaderValue::try_from(format!("{known},{host}")),
        None => HeaderValue::from_str(host),
    };
    if let Ok(value) = value {
        head.headers.insert(names::X_FORWARDED_HOST, value);
    }
}

fn rewrite_path(rewrite: &PathRewrite, head: &mut RequestHead) {
    if matches!(rewrite, PathRewrite::Keep) {
        return;
    }
    let new = rewritten_path(rewrite, head.uri.path());
    let whole = match head.uri.query() {
        Some(query) => format!("{new}?{query}"),
        None => new,
    };
    let before = head.uri.path_and_query().map(|path| path.as_str().to_owned());
    if set_path(head, &whole)
        && let Some(Ok(before)) = before.map(HeaderValue::try_from)
    {
        head.headers.insert(names::ENVOY_ORIGINAL_PATH, before);
    }
}

/// A path after its rewrite.
pub(crate) fn rewritten_path(rewrite: &PathRewrite, path: &str) -> String {
    match rewrite {
        PathRewrite::Keep => path.to_owned(),
        PathRewrite::Prefix { matched: None, with } => with.clone(),
        PathRewrite::Prefix { matched: Some(matched), with } => {
            format!("{with}{}", path.get(*matched..).unwrap_or_default())
        }
        PathRewrite::Regex { pattern, substitution } => {
            pattern.replace_all(path, substitution.as_str()).into_owned()
        }
    }
}

/// `auto_host_rewrite`: the host of the chosen endpoint.
pub(super) fn endpoint_host(action: &Forward, hostname: Option<&str>, head: &mut RequestHead) {
    if matches!(action.host, HostRewrite::Auto)
        && let Some(Ok(host)) = hostname.map(HeaderValue::from_str)
    {
        replace_host(head, &host);
    }
}

/// The host that a mirrored request has: with `-shadow`, before a port.
pub(super) fn shadow_host(head: &mut RequestHead) {
    let host = authority(head);
    let shadow = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{name}-shadow:{port}")
        }
        _ => format!("{host}-shadow"),
    };
    if let Ok(shadow) = HeaderValue::try_from(shadow) {
        set_authority(head, &shadow);
    }
}

/// The request's host as the TLS handshake names it.
pub(super) fn server_name(head: &RequestHead) -> Option<&str> {
    let host = authority(head);
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    (!name.is_empty()).then_some(name)
}
