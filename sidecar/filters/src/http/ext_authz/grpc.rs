//! The gRPC service (`envoy.service.auth.v3.Authorization`).

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, StatusCode};
use weft_filter_api::Callouts;
use weft_model::AppendAction;
use weft_xds_proto::pb::envoy::config::core::v3::{
    HeaderMap as PbHeaderMap, HeaderValue as PbHeaderValue, HeaderValueOption,
    header_value_option::HeaderAppendAction,
};
use weft_xds_proto::pb::envoy::service::auth::v3::{
    AttributeContext, CheckResponse, DeniedHttpResponse, OkHttpResponse,
    attribute_context::{HttpRequest, Request},
    check_response::HttpResponse,
};
use weft_xds_proto::pb::google::protobuf::Timestamp;
use weft_xds_proto::struct_to_json;

use super::ask::Question;
use super::verdict::{Action, Changes, Denial, HeaderChange, QueryChanges, Verdict};
use crate::authorization::{self, Shown, metadata};
use crate::config::GrpcTarget;
use crate::view::request_view;

/// Asks the service.
pub(super) async fn ask(
    callouts: &dyn Callouts,
    target: &GrpcTarget,
    question: &Question<'_>,
) -> Verdict {
    match authorization::check(callouts, target, attributes(question)).await {
        Some(response) => verdict(response),
        None => Verdict::Failed(None),
    }
}

fn attributes(question: &Question<'_>) -> AttributeContext {
    let Question { filter, cx, .. } = question;
    let shown = Shown { certificate: filter.include_certificate, session: filter.include_session };
    let since = cx.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let stream = cx.annotations.as_deref();
    let connection = cx.connection.annotations.as_deref();
    AttributeContext {
        request: Some(Request {
            time: Some(Timestamp {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
            }),
            http: Some(http_request(question)),
        }),
        context_extensions: question.context.clone().into_iter().collect(),
        metadata_context: Some(metadata(&filter.namespaces, &[stream, connection])),
        ..authorization::attributes(&cx.connection, cx.remote, shown)
    }
}

fn http_request(question: &Question<'_>) -> HttpRequest {
    let head = question.head;
    let view = request_view(head);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let size = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let mut headers: Vec<(String, Vec<u8>)> = [
        (":authority", view.authority),
        (":method", head.method.as_str()),
        (":path", path),
        (":scheme", view.scheme),
    ]
    .into_iter()
    .filter(|(name, _)| question.shows(name))
    .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
    .collect();
    headers.extend(
        question
            .headers(|name| name != http::header::HOST)
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())),
    );
    let mut request = HttpRequest {
        id: text("x-request-id").unwrap_or_default().to_owned(),
        method: head.method.to_string(),
        path: path.to_owned(),
        host: view.authority.to_owned(),
        scheme: view.scheme.to_owned(),
        size: size.and_then(|size| size.parse().ok()).unwrap_or(-1),
        protocol: question.cx.protocol.as_str().to_owned(),
        ..HttpRequest::default()
    };
    if let Some(body) = &question.body {
        let partial = if body.partial { "true" } else { "false" };
        headers.push((super::PARTIAL.as_str().to_owned(), partial.as_bytes().to_vec()));
        if body.as_bytes {
            request.raw_body = body.content.to_vec();
        } else {
            request.body = String::from_utf8_lossy(&body.content).into_owned();
        }
    }
    if question.filter.raw_headers {
        let each = headers.into_iter();
        let each = each.map(|(key, raw_value)| PbHeaderValue {
            key,
            raw_value,
            ..PbHeaderValue::default()
        });
        request.header_map = Some(PbHeaderMap { headers: each.collect() });
    } else {
        request.headers = joined(headers);
    }
    request
}

/// Values of the same name joined by commas, as in Envoy.
fn joined(headers: Vec<(String, Vec<u8>)>) -> HashMap<String, String> {
    let mut all: HashMap<String, String> = HashMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(&value);
        let known = all.entry(name).or_default();
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(&value);
    }
    all
}

/// What the service's answer means.
fn verdict(response: CheckResponse) -> Verdict {
    let metadata = response.dynamic_metadata.as_ref().map(struct_to_json).unwrap_or_default();
    let ok = response.status.is_none_or(|status| status.code == 0);
    match (ok, response.http_response) {
        (true, Some(HttpResponse::OkResponse(allowed))) => {
            Verdict::Allowed(Box::new(changes(allowed, metadata)))
        }
        (true, _) => Verdict::Allowed(Box::new(Changes { metadata, ..Changes::default() })),
        (false, Some(HttpResponse::ErrorResponse(error))) => Verdict::Failed(Some(denial(error))),
        (false, Some(HttpResponse::DeniedResponse(denied))) => {
            Verdict::Denied(denial(denied), metadata)
        }
        (false, _) => Verdict::Denied(Denial::of(StatusCode::FORBIDDEN), metadata),
    }
}

#[expect(deprecated, reason = "services still send the older field")]
fn changes(
    allowed: OkHttpResponse,
    metadata: serde_json::Map<String, serde_json::Value>,
) -> Changes {
    let mut invalid = false;
    let set = header_changes(&allowed.headers, &mut invalid);
    let to_client = header_changes(&allowed.response_headers_to_add, &mut invalid);
    let remove = allowed.headers_to_remove.iter().filter_map(|name| name.parse().ok()).collect();
    let older = allowed.dynamic_metadata.as_ref().map(struct_to_json);
    let parameters = allowed.query_parameters_to_set.into_iter();
    Changes {
        set,
        remove,
        to_client,
        query: QueryChanges {
            set: parameters.map(|one| (one.key, one.value)).collect(),
            remove: allowed.query_parameters_to_remove,
        },
        metadata: older.unwrap_or(metadata),
        invalid,
    }
}

fn denial(denied: DeniedHttpResponse) -> Denial {
    let mut invalid = false;
    let headers = header_changes(&denied.headers, &mut invalid);
    let code = denied.status.map(|status| status.code).and_then(|code| u16::try_from(code).ok());
    let status = code.filter(|code| *code > 0).and_then(|code| StatusCode::from_u16(code).ok());
    Denial { status: status.unwrap_or(StatusCode::FORBIDDEN), headers, body: denied.body, invalid }
}

#[expect(deprecated, reason = "services still send the older field")]
fn header_changes(options: &[HeaderValueOption], invalid: &mut bool) -> Vec<HeaderChange> {
    let mut changes = Vec::with_capacity(options.len());
    for option in options {
        let Some(header) = &option.header else { continue };
        let raw =
            if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
        let name = HeaderName::from_bytes(header.key.as_bytes());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(raw)) else {
            *invalid = true;
            continue;
        };
        let action = match option.append {
            Some(append) if append.value => Action::Join,
            Some(_) => Action::As(AppendAction::OverwriteIfExistsOrAdd),
            None => Action::As(match HeaderAppendAction::try_from(option.append_action) {
                Ok(HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
                Ok(HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
                Ok(HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
                Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) | Err(_) => {
                    AppendAction::OverwriteIfExistsOrAdd
                }
            }),
        };
        changes.push(HeaderChange { name, value, action });
    }
    changes
}
