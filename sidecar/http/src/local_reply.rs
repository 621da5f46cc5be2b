//! What `local_reply_config` makes of a reply.

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use weft_filter_api::LocalReply;
use weft_model::LocalReplies;
use weft_telemetry::LogRecord;

use crate::stream::Stream;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

/// Changes a reply as the first mapper that fits says, then gives its body its format.
pub(crate) fn apply(config: &LocalReplies, stream: &Stream, reply: &mut LocalReply) {
    let before = reply.body.clone();
    let kind = reply.headers.get(CONTENT_TYPE).cloned();
    let fits = |reply: &LocalReply| {
        let record = record(stream, reply);
        config
            .mappers
            .iter()
            .find(|mapper| mapper.filter.as_ref().is_none_or(|filter| filter.admits(&record)))
    };
    let mapper = fits(reply);
    if let Some(mapper) = mapper {
        if let Some(body) = &mapper.body {
            reply.body = body.clone();
        }
        for set in &mapper.headers.set {
            if let Some(value) = set.value(&record(stream, reply)) {
                set.action.apply(&mut reply.headers, &set.name, value);
            }
        }
        if let Some(status) = mapper.status {
            reply.status = status;
        }
    }
    let format = mapper.and_then(|mapper| mapper.format.as_ref()).or(config.format.as_ref());
    if let Some(format) = format {
        reply.body = Bytes::from(format.template.body(&record(stream, reply)));
    }
    let named = reply.headers.get(CONTENT_TYPE) != kind.as_ref();
    if reply.body != before && !named {
        let kind = format.map_or(PLAIN, |format| format.content_type.clone());
        reply.headers.insert(CONTENT_TYPE, kind);
    }
}

fn record<'a>(stream: &'a Stream, reply: &'a LocalReply) -> LogRecord<'a> {
    LogRecord {
        status: reply.status.as_u16(),
        response_headers: Some(&reply.headers),
        local_reply: Some(&reply.body),
        ..stream.cx.record(Some(stream.request_head()))
    }
}
