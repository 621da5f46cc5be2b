//! What the plugins that authenticate share.

use http::HeaderName;

use crate::exchange::Exchange;
use crate::plugin::Step;
use crate::reply::Reply;

/// Why nobody is known by what a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// What the client is told.
    pub(crate) message: &'static str,
}

impl Denied {
    pub(crate) const fn new(message: &'static str) -> Self {
        Self { message }
    }
}

/// Lets the request be the anonymous consumer's, if there is one, else refuses it.
pub(crate) fn deny(
    exchange: &mut Exchange<'_>,
    anonymous: Option<&str>,
    denied: Denied,
    challenge: impl FnOnce() -> (HeaderName, String),
) -> Step {
    let message = match anonymous {
        None => denied.message,
        Some(name) => {
            let consumers = exchange.consumers();
            if let Some(credential) = consumers.and_then(|all| all.anonymous(name)) {
                exchange.attach(&credential);
                return Step::Continue;
            }
            "Invalid user authorization"
        }
    };
    let (name, value) = challenge();
    Reply::message(401, message).with(name, value).into()
}
