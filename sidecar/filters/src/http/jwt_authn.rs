//! `envoy.filters.http.jwt_authn`: requests prove with a token who sends them.

mod claims;
pub(crate) mod config;
mod keys;
mod location;
mod provider;
mod remote;
mod requirement;
mod status;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts as RequestHead;
use http::{HeaderValue, Method, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_route::{Conditions, PathMatch};
use weft_telemetry::Counter;

use crate::view::request_view;
use provider::{Keys, Provider};
use remote::Remote;
use requirement::Requirement;
use status::Status;

/// The namespace of what the filter writes to dynamic metadata.
const NAMESPACE: &str = "envoy.filters.http.jwt_authn";

/// Longest path that a challenge repeats, bytes.
const LONGEST_PATH: usize = 256;

/// The filter.
#[derive(Debug)]
pub(crate) struct JwtAuthn {
    providers: Vec<Provider>,
    /// Whether any of them has its keys elsewhere.
    remote: bool,
    /// The first that matches counts.
    rules: Vec<Rule>,
    /// `requirement_map`
    named: BTreeMap<String, Requirement>,
    /// `bypass_cors_preflight`
    bypass_preflight: bool,
    /// `strip_failure_response`
    strip_failure: bool,
    stats: Stats,
}

/// `RequirementRule`
#[derive(Debug)]
struct Rule {
    path: PathMatch,
    conditions: Conditions,
    /// `None`: nothing is required.
    requirement: Option<Arc<Requirement>>,
}

/// `PerRouteConfig`
#[derive(Debug)]
pub(crate) enum PerRoute {
    /// `disabled`
    Disabled,
    /// `requirement_name`
    Named(String),
}

/// `http.<prefix>.jwt_authn.*`
#[derive(Debug)]
struct Stats {
    allowed: Counter,
    denied: Counter,
    preflight_bypassed: Counter,
}

impl HttpFilter for JwtAuthn {
    fn uses_io(&self) -> bool {
        self.remote
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        if self.bypass_preflight && is_preflight(head) {
            self.stats.preflight_bypassed.inc();
            self.stats.allowed.inc();
            return Flow::Continue;
        }
        let requirement = match route.and_then(|route| route.downcast_ref::<PerRoute>()) {
            Some(PerRoute::Disabled) => None,
            Some(PerRoute::Named(name)) => match self.named.get(name) {
                Some(requirement) => Some(requirement),
                None => return Flow::Reply(self.no_requirement(name)),
            },
            None => self.rule(head),
        };
        let Some(requirement) = requirement else {
            self.stats.allowed.inc();
            return Flow::Continue;
        };
        let old = if self.remote { self.old_keys(requirement) } else { Vec::new() };
        if old.is_empty() {
            return self.verify(requirement, cx, head).map_or(Flow::Continue, Flow::Reply);
        }
        Flow::Await(Box::pin(async move {
            for remote in old {
                let callouts = cx.io().callouts();
                remote.refresh(callouts).await;
            }
            self.verify(requirement, cx, head)
        }))
    }
}

impl JwtAuthn {
    /// The key sets that a requirement needs and that have to be fetched.
    fn old_keys(&self, requirement: &Requirement) -> Vec<&Arc<Remote>> {
        let mut places = Vec::new();
        requirement.providers(self.providers.len(), &mut places);
        let remote = |place: usize| match &self.providers.get(place)?.keys {
            Keys::Remote(remote) if !remote.is_fresh() => Some(remote),
            Keys::Remote(_) | Keys::Local(_) => None,
        };
        places.into_iter().filter_map(remote).collect()
    }

    fn verify(
        &self,
        requirement: &Requirement,
        cx: &mut StreamCx,
        head: &mut RequestHead,
    ) -> Option<LocalReply> {
        let challenge = challenge(head);
        match requirement.verify(&self.providers, cx, head) {
            Ok(()) => {
                self.stats.allowed.inc();
                None
            }
            Err(status) => Some(self.refuse(status, &challenge)),
        }
    }

    fn rule(&self, head: &RequestHead) -> Option<&Requirement> {
        let view = request_view(head);
        let matches = |rule: &&Rule| rule.path.matches(&view) && rule.conditions.hold(&view);
        self.rules.iter().find(matches)?.requirement.as_deref()
    }

    fn refuse(&self, status: Status, realm: &str) -> LocalReply {
        self.stats.denied.inc();
        let code = match status {
            Status::AudienceNotAllowed => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        };
        let details = details(status.text());
        if self.strip_failure {
            return LocalReply::text(code, "", details);
        }
        let mut reply = LocalReply::text(code, status.text(), details);
        let error = if status == Status::Missing { "" } else { ", error=\"invalid_token\"" };
        if let Ok(value) = HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{error}")) {
            reply.headers.insert(WWW_AUTHENTICATE, value);
        }
        reply
    }

    /// The reply where a route asks for a requirement that is not there.
    fn no_requirement(&self, name: &str) -> LocalReply {
        self.stats.denied.inc();
        let known: Vec<_> = self.named.keys().map(String::as_str).collect();
        let error =
            format!("Wrong requirement_name: {name}. It should be one of [{}]", known.join(","));
        let body = if self.strip_failure {
            String::new()
        } else {
            format!("Failed JWT authentication: {error}")
        };
        LocalReply::text(StatusCode::FORBIDDEN, body, details(&error))
    }
}

fn details(reason: &str) -> String {
    let reason: String = reason.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    format!("jwt_authn_access_denied{{{reason}}}")
}

fn is_preflight(head: &RequestHead) -> bool {
    let given = |name| head.headers.get(name).is_some_and(|value: &HeaderValue| !value.is_empty());
    head.method == Method::OPTIONS && given(ORIGIN) && given(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The target of a request as its client sees it.
fn challenge(head: &RequestHead) -> String {
    let view = request_view(head);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = path.get(..LONGEST_PATH).unwrap_or(path);
    format!("{}://{}{path}", view.scheme, view.authority)
}
