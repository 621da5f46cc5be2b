//! The filter loop: down in the order of the configuration, up in reverse.

use http::response::Parts as ResponseHead;
use weft_filter_api::{Flow, LocalReply, RouteFilterConfig};
use weft_model::{HttpFilterEntry, Route};

use crate::stream::Stream;

/// How many filters saw the request; those see the response too.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reached(usize);

/// Lets the filters see a request; gives the reply of the first that ends it.
pub(crate) async fn down(
    entries: &[HttpFilterEntry],
    stream: &mut Stream,
    route: Option<&Route>,
    reached: &mut Reached,
) -> Option<LocalReply> {
    for entry in entries {
        reached.0 += 1;
        if !entry.filter.sees_requests() || !runs(entry, route) {
            continue;
        }
        let config = config(entry, route);
        let reply = match entry.filter.request(&mut stream.cx, &mut stream.head, config) {
            Flow::Continue => None,
            Flow::Reply(reply) => Some(reply),
            Flow::Await(waiting) => waiting.await,
        };
        if reply.is_some() {
            return reply;
        }
    }
    None
}

/// Lets the filters that saw the request see the response.
pub(crate) fn up(
    entries: &[HttpFilterEntry],
    stream: &mut Stream,
    head: &mut ResponseHead,
    route: Option<&Route>,
    reached: Reached,
) {
    for entry in entries[..reached.0].iter().rev() {
        if entry.filter.sees_responses() && runs(entry, route) {
            entry.filter.response(&mut stream.cx, head, config(entry, route));
        }
    }
}

fn config<'a>(entry: &HttpFilterEntry, route: Option<&'a Route>) -> Option<&'a RouteFilterConfig> {
    route.filter(|route| !route.filters.is_empty())?.filter(&entry.name)
}

fn runs(entry: &HttpFilterEntry, route: Option<&Route>) -> bool {
    if entry.disabled {
        return config(entry, route).is_some();
    }
    route.is_none_or(|route| route.disabled_filters.is_empty() || !route.disables(&entry.name))
}
