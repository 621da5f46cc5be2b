//! What a plugin is.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use http::response::Parts as ResponseHead;

use crate::exchange::{Answer, Ended, Exchange};
use crate::reply::Reply;

/// The phases in which a request's head is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Who asks, and for what.
    Rewrite,
    /// Whether they may.
    Access,
}

/// What happens after a plugin saw a request.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next plugin's turn.
    Continue,
    /// Ends the request.
    Reply(Box<Reply>),
    /// Goes on in [`Plugin::wait`].
    Wait,
}

impl From<Reply> for Step {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// What a plugin waits for.
pub(crate) type Waiting<'a> = Pin<Box<dyn Future<Output = Step> + 'a>>;

/// What a plugin does to a body.
pub(crate) type Changing<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A plugin with a configuration, compiled and shared by all workers.
///
/// What it remembers about one request it keeps in the [`Exchange`].
pub(crate) trait Plugin: Debug + Send + Sync {
    /// Sees a request in the first phase.
    fn rewrite(&self, _: &mut Exchange<'_>) -> Step {
        Step::Continue
    }

    /// Sees a request in the second phase, when every plugin has seen it in the first.
    fn access(&self, _: &mut Exchange<'_>) -> Step {
        Step::Continue
    }

    /// What follows [`Step::Wait`].
    fn wait<'a>(&'a self, _: Phase, _: &'a mut Exchange<'_>) -> Waiting<'a> {
        Box::pin(std::future::ready(Step::Continue))
    }

    /// Sees a response's head, also of replies that plugins made.
    fn header_filter(&self, _: &mut Answer<'_>, _: &mut ResponseHead) {}

    /// Changes a response's body, after all plugins have seen its head; only for plugins whose
    /// definition says that they use bodies.
    fn body<'a>(&'a self, _: &'a mut Answer<'_>) -> Option<Changing<'a>> {
        None
    }

    /// Whether it sees responses after all others, whatever its priority: codings are the last that
    /// happens to a body.
    fn sees_responses_last(&self) -> bool {
        false
    }

    /// Whether [`Self::header_filter`] reads the request.
    fn reads_request_late(&self) -> bool {
        false
    }

    /// Whether [`Self::log`] has anything to do.
    fn logs(&self) -> bool {
        false
    }

    /// Sees what became of a request when all is over.
    fn log(&self, _: &Ended) {}
}
