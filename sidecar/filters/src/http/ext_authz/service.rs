//! The HTTP service: the request's head is sent there, and its answer decides.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, PROXY_AUTHENTICATE, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use serde_json::Value;
use weft_filter_api::{CalloutOptions, Callouts};
use weft_route::StringMatcher;

use super::ask::Question;
use super::verdict::{Action, Changes, Denial, HeaderChange, Verdict};
use crate::config::HttpTarget;
use crate::view::request_view;

static TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// `HttpService`, compiled.
#[derive(Debug)]
pub(super) struct HttpService {
    pub(super) target: HttpTarget,
    /// `path_prefix`
    pub(super) prefix: String,
    /// `path_override`
    pub(super) path: String,
    /// `authorization_request.headers_to_add`
    pub(super) add: HeaderMap,
    /// `allowed_upstream_headers`
    pub(super) to_upstream: Vec<StringMatcher>,
    /// `allowed_upstream_headers_to_append`
    pub(super) to_append: Vec<StringMatcher>,
    /// `allowed_client_headers`; empty: all.
    pub(super) to_client: Vec<StringMatcher>,
    /// `allowed_client_headers_on_success`
    pub(super) on_success: Vec<StringMatcher>,
    /// `dynamic_metadata_from_headers`
    pub(super) to_metadata: Vec<StringMatcher>,
}

fn listed(matchers: &[StringMatcher], name: &HeaderName) -> bool {
    matchers.iter().any(|matcher| matcher.matches(name.as_str()))
}

impl HttpService {
    /// Asks the service.
    pub(super) async fn ask(&self, callouts: &dyn Callouts, question: &Question<'_>) -> Verdict {
        let Some(request) = self.request(question) else { return Verdict::Failed(None) };
        let options = CalloutOptions::within(self.target.timeout);
        match callouts.send(&self.target.cluster, request, options).await {
            Ok(answer) => self.verdict(&answer),
            Err(error) => {
                tracing::debug!(%error, cluster = self.target.cluster, "no authorization");
                Verdict::Failed(None)
            }
        }
    }

    fn request(&self, question: &Question<'_>) -> Option<Request<Bytes>> {
        let body = question.body.as_ref();
        let content = body.map(|body| body.content.clone()).unwrap_or_default();
        let mut request = Request::new(content);
        *request.method_mut() = question.head.method.clone();
        let path = question.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let path = match self.path.as_str() {
            "" => format!("{}{path}", self.prefix),
            path => path.to_owned(),
        };
        *request.uri_mut() = path.parse().ok()?;
        let headers = request.headers_mut();
        let usual = |name: &HeaderName| *name == AUTHORIZATION;
        let about_connection = |name: &HeaderName| {
            *name == HOST || *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING
        };
        for (name, value) in question.headers(usual).filter(|(name, _)| !about_connection(name)) {
            headers.append(name, value.clone());
        }
        headers.insert(HOST, request_view(question.head).authority.parse().ok()?);
        for (name, value) in &self.add {
            headers.insert(name, value.clone());
        }
        if let Some(body) = body {
            let partial = if body.partial { "true" } else { "false" };
            headers.insert(super::PARTIAL.clone(), HeaderValue::from_static(partial));
        }
        let length = request.body().len();
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        Some(request)
    }

    fn verdict(&self, answer: &Response<Bytes>) -> Verdict {
        let status = answer.status();
        if status.is_server_error() {
            return Verdict::Failed(None);
        }
        if status == StatusCode::OK {
            return Verdict::Allowed(Box::new(self.changes(answer.headers())));
        }
        let always = |name: &HeaderName| {
            *name == WWW_AUTHENTICATE || *name == LOCATION || *name == PROXY_AUTHENTICATE
        };
        let about_connection =
            |name: &HeaderName| *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING;
        let headers = answer.headers().iter().filter(|(name, _)| {
            let shown = self.to_client.is_empty() || listed(&self.to_client, name) || always(name);
            shown && !about_connection(name)
        });
        let headers = headers.map(|(name, value)| HeaderChange {
            name: name.clone(),
            value: value.clone(),
            action: Action::As(weft_model::AppendAction::AppendIfExistsOrAdd),
        });
        let body = String::from_utf8_lossy(answer.body()).into_owned();
        let denial = Denial { status, headers: headers.collect(), body, invalid: false };
        Verdict::Denied(denial, serde_json::Map::new())
    }

    fn changes(&self, headers: &HeaderMap) -> Changes {
        let mut changes = Changes::default();
        for (name, value) in headers {
            let (name, value) = (name.clone(), value.clone());
            if listed(&self.to_metadata, &name) {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                changes.metadata.insert(name.as_str().to_owned(), Value::from(text));
            }
            if listed(&self.on_success, &name) {
                changes.to_client.push(HeaderChange::set(name.clone(), value.clone()));
            }
            if listed(&self.to_append, &name) {
                changes.set.push(HeaderChange { name, value, action: Action::Join });
            } else if listed(&self.to_upstream, &name) {
                changes.set.push(HeaderChange::set(name, value));
            }
        }
        let remove = headers.get_all(&TO_REMOVE).iter().filter_map(|value| value.to_str().ok());
        let remove = remove.flat_map(|value| value.split(',')).map(str::trim);
        changes.remove = remove.filter_map(|name| name.parse().ok()).collect();
        changes
    }
}
