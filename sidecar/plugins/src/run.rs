//! What the chain keeps about one request.

use std::any::Any;
use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::{HeaderName, HeaderValue};

use crate::consumers::Credential;
use crate::link::Link;

/// A value that a plugin keeps for one request.
type Kept = Arc<dyn Any + Send + Sync>;

/// From the request's head to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Who asks.
    pub(crate) credential: Option<Arc<Credential>>,
    /// The route's plugins with those of the consumer, where that has any.
    pub(crate) merged: Option<Arc<[Arc<Link>]>>,
    /// Headers that the response will have.
    pub(crate) response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Names of plugins that are not to run any more.
    pub(crate) skipped: Vec<&'static str>,
    /// The request, where the response's plugins read it.
    pub(crate) request: Option<Arc<RequestHead>>,
    /// What became of `_meta.filter`, by link.
    pub(crate) filtered: Vec<(u64, bool)>,
    kept: Vec<(u64, Kept)>,
}

impl Run {
    pub(crate) fn keep<T: Send + Sync + 'static>(&mut self, link: u64, value: T) {
        self.kept.push((link, Arc::new(value)));
    }

    pub(crate) fn kept<T: 'static>(&self, link: u64) -> Option<&T> {
        let own = self.kept.iter().rev().filter(|(of, _)| *of == link);
        own.map(|(_, value)| value).find_map(|value| value.downcast_ref())
    }
}
