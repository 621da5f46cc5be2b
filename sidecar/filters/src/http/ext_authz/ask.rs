//! What is asked, whoever is asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::{HeaderName, HeaderValue};
use weft_filter_api::StreamCx;

use super::ExtAuthz;

/// A request on which a service is to decide.
pub(super) struct Question<'a> {
    pub(super) filter: &'a ExtAuthz,
    pub(super) cx: &'a StreamCx,
    pub(super) head: &'a RequestHead,
    /// `None`: the body is not looked at.
    pub(super) body: Option<Body>,
    /// `context_extensions`
    pub(super) context: &'a BTreeMap<String, String>,
}

/// The part of a request's body that is shown.
pub(super) struct Body {
    pub(super) content: Bytes,
    /// Whether it goes on.
    pub(super) partial: bool,
    pub(super) as_bytes: bool,
}

impl Question<'_> {
    /// The headers that the service may see; `usual` says what it sees when nothing is configured.
    pub(super) fn headers(
        &self,
        usual: impl Fn(&HeaderName) -> bool,
    ) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let filter = self.filter;
        self.head.headers.iter().filter(move |(name, _)| {
            let listed = |all: &[weft_route::StringMatcher]| {
                all.iter().any(|matcher| matcher.matches(name.as_str()))
            };
            let allowed = match &filter.allowed {
                Some(allowed) => listed(allowed) || (!filter.is_grpc() && usual(name)),
                None => usual(name),
            };
            allowed && !listed(&filter.disallowed)
        })
    }

    /// Whether a pseudo-header may be seen.
    pub(super) fn shows(&self, name: &str) -> bool {
        let filter = self.filter;
        filter.allowed.as_ref().is_none_or(|all| all.iter().any(|one| one.matches(name)))
            && !filter.disallowed.iter().any(|one| one.matches(name))
    }
}

impl ExtAuthz {
    fn is_grpc(&self) -> bool {
        matches!(self.service, super::Service::Grpc(_))
    }
}
