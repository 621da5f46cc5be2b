//! What a filter can do beyond looking at heads.

use std::fmt;
use std::rc::Rc;

use crate::callout::Nowhere;
use crate::{Callouts, MessageBody};

/// The bodies of a stream and the way out of it, for filters that say that they use them
/// ([`crate::HttpFilter::uses_io`]).
pub struct StreamIo {
    /// The request's body, until the request goes upstream; empty where there is none.
    pub request: MessageBody,
    /// The response's body, while the response passes the filters; empty before.
    pub response: MessageBody,
    callouts: Rc<dyn Callouts>,
}

impl StreamIo {
    /// Of a request whose body is `request`.
    #[must_use]
    pub fn new(request: MessageBody, callouts: Rc<dyn Callouts>) -> Self {
        Self { request, response: MessageBody::default(), callouts }
    }

    /// Sends requests to clusters. The handle may be taken along to tasks of the worker.
    #[must_use]
    pub fn callouts(&self) -> Rc<dyn Callouts> {
        Rc::clone(&self.callouts)
    }
}

impl Default for StreamIo {
    /// Without bodies; each callout fails.
    fn default() -> Self {
        Self::new(MessageBody::default(), Rc::new(Nowhere))
    }
}

impl fmt::Debug for StreamIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamIo")
            .field("request", &self.request)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}
