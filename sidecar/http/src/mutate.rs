//! Header changes that routes, virtual hosts and route tables ask for.

use http::header::HOST;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use weft_filter_api::StreamCx;
use weft_model::HeaderMutations;
use weft_telemetry::LogRecord;

use crate::inbound;

/// Changes a request's head.
pub(crate) fn request(changes: &HeaderMutations, head: &mut RequestHead, stream: &StreamCx) {
    for name in &changes.remove {
        head.headers.remove(name);
    }
    for set in &changes.set {
        let Some(value) = set.value(&stream.record(Some(head))) else { continue };
        if set.name == HOST {
            inbound::set_authority(head, &value);
        } else {
            set.action.apply(&mut head.headers, &set.name, value);
        }
    }
}

/// Changes a response's headers; `request` is its request's head, where that is still there.
pub(crate) fn response(
    changes: &HeaderMutations,
    head: &mut ResponseHead,
    stream: &StreamCx,
    request: Option<&RequestHead>,
) {
    for name in &changes.remove {
        head.headers.remove(name);
    }
    for set in &changes.set {
        let record = LogRecord {
            status: head.status.as_u16(),
            response_headers: Some(&head.headers),
            ..stream.record(request)
        };
        if let Some(value) = set.value(&record) {
            set.action.apply(&mut head.headers, &set.name, value);
        }
    }
}

/// Whether a change needs the request's headers.
pub(crate) fn reads_request(changes: &HeaderMutations) -> bool {
    changes.set.iter().any(|set| set.value.reads_request())
}
