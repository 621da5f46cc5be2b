//! What plugins see of a request and its response.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use weft_apisix::Variables;
use weft_filter_api::StreamCx;

use crate::chain::Place;
use crate::consumers::{Consumers, Credential};
use crate::run::Run;
use crate::variables::View;

const USERNAME: HeaderName = HeaderName::from_static("x-consumer-username");
const CREDENTIAL: HeaderName = HeaderName::from_static("x-credential-identifier");
const CUSTOM_ID: HeaderName = HeaderName::from_static("x-consumer-custom-id");

/// A request on its way to the upstream.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) cx: &'a mut StreamCx,
    pub(crate) head: &'a mut RequestHead,
    pub(crate) run: &'a mut Run,
    pub(crate) place: &'a Place,
    /// The link whose turn it is.
    pub(crate) link: u64,
}

impl Exchange<'_> {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// Sets a header of the request; a value that can't be one is left out.
    pub(crate) fn set_header(&mut self, name: &HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.head.headers.insert(name, value);
        }
    }

    /// Sets a header of the response, whoever makes that.
    pub(crate) fn set_response_header(&mut self, name: &HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.run.response_headers.push((name.clone(), value));
        }
    }

    /// The variables of the request.
    pub(crate) fn variables(&self) -> View<'_> {
        View {
            cx: self.cx,
            request: Some(self.head),
            response: None,
            run: self.run,
            place: self.place,
        }
    }

    /// A variable of the request.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.variables().value(name).map(Cow::into_owned)
    }

    /// The consumers of the mesh, where the route is told of them.
    pub(crate) fn consumers(&self) -> Option<Arc<Consumers>> {
        self.cx.state.get::<Arc<Consumers>>().cloned()
    }

    /// The request is the consumer's from here on.
    pub(crate) fn attach(&mut self, credential: &Arc<Credential>) {
        self.run.credential = Some(Arc::clone(credential));
        let headers = &mut self.head.headers;
        let consumer = &credential.consumer;
        put(headers, USERNAME, Some(&consumer.name));
        put(headers, CREDENTIAL, credential.id.as_deref());
        put(headers, CUSTOM_ID, consumer.labels.get("custom_id").map(String::as_str));
    }

    /// Keeps a value until the request is over; the plugin finds it again in its response.
    pub(crate) fn keep<T: Send + Sync + 'static>(&mut self, value: T) {
        self.run.keep(self.link, value);
    }

    /// The path with the query, as the upstream will see it unless the route rewrites it.
    pub(crate) fn set_path_and_query(&mut self, text: &str) {
        let mut parts = self.head.uri.clone().into_parts();
        let Ok(path) = text.parse() else { return };
        parts.path_and_query = Some(path);
        if let Ok(uri) = http::Uri::from_parts(parts) {
            self.head.uri = uri;
        }
    }

    /// Removes a parameter of the query.
    pub(crate) fn remove_query_parameter(&mut self, name: &str) {
        let Some(query) = self.head.uri.query() else { return };
        let is_other = |pair: &&str| {
            let (key, _) = pair.split_once('=').unwrap_or((pair, ""));
            form_urlencoded::parse(key.as_bytes()).next().is_none_or(|(key, _)| key != name)
        };
        let left: Vec<_> = query.split('&').filter(is_other).collect();
        let path = self.head.uri.path();
        let text =
            if left.is_empty() { path.to_owned() } else { format!("{path}?{}", left.join("&")) };
        self.set_path_and_query(&text);
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    match value.and_then(|value| HeaderValue::from_str(value).ok()) {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

/// A response on its way to the client.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) cx: &'a mut StreamCx,
    pub(crate) run: &'a mut Run,
    pub(crate) place: &'a Place,
    /// The link whose turn it is.
    pub(crate) link: u64,
}

impl Answer<'_> {
    /// The variables of the request and the response.
    pub(crate) fn variables<'a>(&'a self, head: &'a ResponseHead) -> View<'a> {
        View {
            cx: self.cx,
            request: self.run.request.as_deref(),
            response: Some(head),
            run: self.run,
            place: self.place,
        }
    }

    /// Keeps a value until the exchange is over.
    pub(crate) fn keep<T: Send + Sync + 'static>(&mut self, value: T) {
        self.run.keep(self.link, value);
    }

    /// What the plugin kept of the request.
    pub(crate) fn kept<T: 'static>(&self) -> Option<&T> {
        self.run.kept(self.link)
    }
}

/// An exchange that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) place: Arc<Place>,
    pub(crate) consumer: Option<Arc<Credential>>,
    pub(crate) request: Arc<RequestHead>,
    pub(crate) status: u16,
    pub(crate) response_headers: HeaderMap,
    pub(crate) started: Instant,
    pub(crate) started_at: std::time::SystemTime,
    /// When the response's head was there.
    pub(crate) answered: Instant,
    pub(crate) client: std::net::SocketAddr,
    pub(crate) upstream: Option<std::net::SocketAddr>,
    /// The port that the client asked.
    pub(crate) port: u16,
}
