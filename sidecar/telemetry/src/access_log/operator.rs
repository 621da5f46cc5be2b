//! The operators of a format.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::grpc::{self, GrpcForm};
use super::output::Output;
use super::plain::Plain;
use super::timestamp::TimeFormat;
use super::{FormatError, LogRecord};
use crate::clock;

/// The name of the counts of a gRPC call's messages among filter state.
const GRPC_STATS: &str = "envoy.filters.http.grpc_stats";

/// One `%OPERATOR%`.
#[derive(Debug)]
pub(super) struct Operator {
    kind: Kind,
    /// `:LENGTH`: longer values are cut, in bytes.
    max: Option<usize>,
}

#[derive(Debug)]
enum Kind {
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    Grpc(GrpcForm),
    /// `%PATH()%`
    Path {
        query: bool,
        which: WhichPath,
    },
    Request(Field, Option<Field>),
    /// `%REQ_WITHOUT_QUERY()%`
    WithoutQuery(Field, Option<Field>),
    Response(HeaderName, Option<HeaderName>),
    Trailer(HeaderName),
    Query(String),
    /// `%ENVIRONMENT()%`, resolved when compiled.
    Environment(Option<String>),
    Metadata {
        namespace: String,
        path: Vec<String>,
    },
    State {
        name: String,
        form: StateForm,
    },
    Plain(Plain),
}

/// How `%FILTER_STATE()%` prints an object.
#[derive(Debug)]
enum StateForm {
    Plain,
    Typed,
    Field(String),
}

/// Which path `%PATH()%` prints.
#[derive(Debug)]
enum WhichPath {
    Sent,
    Original,
    OriginalOrSent,
}

/// What `%REQ()%` can name.
#[derive(Debug)]
enum Field {
    Method,
    Path,
    Authority,
    Scheme,
    OriginalPath,
    Header(HeaderName),
}

impl Operator {
    /// Parses what stands between the percent signs; `at` is for errors.
    pub(super) fn parse(text: &str, at: usize) -> Result<Self, FormatError> {
        let operator = || text.to_owned();
        let (name, rest) = text.split_at(text.find(['(', ':']).unwrap_or(text.len()));
        let (argument, rest) = match rest.strip_prefix('(') {
            None => (None, rest),
            Some(inner) => {
                let end = inner.rfind(')').ok_or_else(|| FormatError::Argument {
                    at,
                    operator: operator(),
                    why: "the parenthesis is not closed",
                })?;
                (Some(&inner[..end]), &inner[end + 1..])
            }
        };
        let max = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some(length) if length.parse::<usize>().is_ok() => length.parse().ok(),
            _ => {
                let why = "expected `:LENGTH` or nothing after the operator";
                return Err(FormatError::Argument { at, operator: operator(), why });
            }
        };
        let kind = Kind::parse(name, argument, at)?;
        Ok(Self { kind, max })
    }

    /// Whether the value is taken from the request's head.
    pub(super) fn reads_request(&self) -> bool {
        matches!(
            self.kind,
            Kind::Request(..) | Kind::WithoutQuery(..) | Kind::Query(_) | Kind::Path { .. }
        )
    }

    /// Writes the operator's value.
    pub(super) fn write<'a>(&self, record: &LogRecord<'a>, out: &mut Output<'_>) {
        out.max = self.max;
        let either = |first: &Field, second: &Option<Field>| {
            let otherwise = || second.as_ref().and_then(|field| field.value(record));
            first.value(record).or_else(otherwise)
        };
        match &self.kind {
            Kind::StartTime(format) => out.display(&format.of(record.started_at)),
            Kind::EmitTime(format) => {
                out.display(&format.of(clock::wall(clock::now())));
            }
            Kind::Grpc(form) => match grpc::status(record) {
                Some(status) => match form.text(status) {
                    Some(name) => out.text(Some(name)),
                    None => out.number(Some(status)),
                },
                None => out.bytes(None),
            },
            Kind::Path { query, which } => {
                let path = match which {
                    WhichPath::Sent => record.path,
                    WhichPath::Original => record.original_path,
                    WhichPath::OriginalOrSent => record.original_path.or(record.path),
                };
                let without = |path: &'a str| path.split('?').next().unwrap_or_default();
                out.text(path.map(|path| if *query { path } else { without(path) }));
            }
            Kind::Request(first, second) => out.bytes(either(first, second)),
            Kind::WithoutQuery(first, second) => {
                let value = either(first, second);
                out.bytes(value.and_then(|value| value.split(|byte| *byte == b'?').next()));
            }
            Kind::Response(name, otherwise) => {
                let first = header(record.response_headers, name);
                let second =
                    || otherwise.as_ref().and_then(|name| header(record.response_headers, name));
                out.bytes(first.or_else(second));
            }
            Kind::Trailer(name) => out.bytes(header(record.response_trailers, name)),
            Kind::Query(name) => out.text(query(record.path, name)),
            Kind::Environment(value) => out.text(value.as_deref()),
            Kind::Metadata { namespace, path } => {
                out.value(metadata(record, namespace, path).as_deref());
            }
            Kind::State { name, form } => {
                let counted = (name == GRPC_STATS).then(|| grpc_stats(record)).flatten();
                let known = record.annotations.iter().flatten().find_map(|all| all.state(name));
                match (form, known.or(counted.as_ref())) {
                    (StateForm::Typed, Some(object)) => out.text(Some(&object.to_string())),
                    (StateForm::Field(field), Some(object)) => out.value(object.get(field)),
                    (_, object) => out.value(object),
                }
            }
            Kind::Plain(plain) => plain.write(record, out),
        }
    }
}

impl Kind {
    fn parse(name: &str, argument: Option<&str>, at: usize) -> Result<Self, FormatError> {
        let wrong = |why| FormatError::Argument { at, operator: name.to_owned(), why };
        let header = |text: &str| {
            text.to_ascii_lowercase().parse::<HeaderName>().map_err(|_| wrong("not a header name"))
        };
        let fields = |names: &str| {
            let (first, second) = alternatives(names);
            let second = second.map(|text| Field::parse(text, header)).transpose()?;
            Ok((Field::parse(first, header)?, second))
        };
        match (name, argument) {
            ("START_TIME", format) => Ok(Self::StartTime(TimeFormat::parse(format))),
            ("EMIT_TIME", format) => Ok(Self::EmitTime(TimeFormat::parse(format))),
            ("GRPC_STATUS", form) => GrpcForm::named(form)
                .map(Self::Grpc)
                .ok_or_else(|| wrong("expected CAMEL_STRING, SNAKE_STRING or NUMBER")),
            ("GRPC_STATUS_NUMBER", None) => Ok(Self::Grpc(GrpcForm::Number)),
            ("PATH", argument) => Self::path(argument.unwrap_or_default())
                .ok_or_else(|| wrong("expected WQ or NQ, and ORIG, PATH or ORIG_OR_PATH")),
            ("METADATA", Some(path)) => match path.split_once(':') {
                Some(("DYNAMIC", path)) => Self::parse("DYNAMIC_METADATA", Some(path), at),
                _ => Err(wrong("only the type DYNAMIC is supported")),
            },
            ("REQ", Some(names)) => fields(names).map(|(a, b)| Self::Request(a, b)),
            ("REQ_WITHOUT_QUERY", Some(names)) => {
                fields(names).map(|(a, b)| Self::WithoutQuery(a, b))
            }
            ("RESP", Some(names)) => {
                let (first, second) = alternatives(names);
                Ok(Self::Response(header(first)?, second.map(header).transpose()?))
            }
            ("TRAILER", Some(name)) => Ok(Self::Trailer(header(name)?)),
            ("QUERY_PARAM", Some(name)) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            ("ENVIRONMENT", Some(name)) if !name.is_empty() => {
                Ok(Self::Environment(std::env::var(name).ok()))
            }
            ("DYNAMIC_METADATA", Some(path)) => {
                let mut steps = path.split(':').map(str::to_owned);
                let namespace = steps.next().filter(|name| !name.is_empty());
                let namespace = namespace.ok_or_else(|| wrong("a namespace is missing"))?;
                Ok(Self::Metadata { namespace, path: steps.collect() })
            }
            ("FILTER_STATE", Some(argument)) => Self::state(argument)
                .ok_or_else(|| wrong("expected NAME, NAME:PLAIN, NAME:TYPED or NAME:FIELD:name")),
            ("REQ" | "REQ_WITHOUT_QUERY" | "RESP" | "TRAILER", None) => {
                Err(wrong("a header name in parentheses is missing"))
            }
            ("QUERY_PARAM" | "ENVIRONMENT" | "DYNAMIC_METADATA" | "FILTER_STATE", _) => {
                Err(wrong("a name in parentheses is missing"))
            }
            _ => Plain::named(name)
                .map(Self::Plain)
                .ok_or_else(|| FormatError::Unknown { at, operator: name.to_owned() }),
        }
    }

    fn path(argument: &str) -> Option<Self> {
        let (query, which) = argument.split_once(':').unwrap_or((argument, ""));
        let query = match query {
            "" | "WQ" => true,
            "NQ" => false,
            _ => return None,
        };
        let which = match which {
            "" | "ORIG_OR_PATH" => WhichPath::OriginalOrSent,
            "ORIG" => WhichPath::Original,
            "PATH" => WhichPath::Sent,
            _ => return None,
        };
        Some(Self::Path { query, which })
    }

    fn state(argument: &str) -> Option<Self> {
        let mut parts = argument.splitn(3, ':');
        let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let form = match (parts.next(), parts.next()) {
            (None | Some("TYPED"), None) => StateForm::Typed,
            (Some("PLAIN"), None) => StateForm::Plain,
            (Some("FIELD"), Some(field)) => StateForm::Field(field.to_owned()),
            _ => return None,
        };
        Some(Self::State { name, form })
    }
}

/// The object that Envoy's filter keeps under [`GRPC_STATS`].
fn grpc_stats(record: &LogRecord<'_>) -> Option<Value> {
    let (to, from) = record.messages?;
    Some(serde_json::json!({
        "request_message_count": to.to_string(),
        "response_message_count": from.to_string(),
    }))
}

/// The value at a path of dynamic metadata, of the stream or else of its connection.
fn metadata<'a>(
    record: &LogRecord<'a>,
    namespace: &str,
    path: &[String],
) -> Option<Cow<'a, Value>> {
    let mut known = record.annotations.into_iter().flatten();
    if path.is_empty() {
        let all = known.find_map(|all| all.namespace(namespace))?;
        return Some(Cow::Owned(Value::Object(all.clone())));
    }
    known.find_map(|all| all.find(namespace, path)).map(Cow::Borrowed)
}

/// `A?B`: the second is taken when the first is absent.
fn alternatives(names: &str) -> (&str, Option<&str>) {
    names.split_once('?').map_or((names, None), |(first, second)| (first, Some(second)))
}

fn header<'a>(headers: Option<&'a HeaderMap>, name: &HeaderName) -> Option<&'a [u8]> {
    headers?.get(name).map(http::HeaderValue::as_bytes)
}

fn query<'a>(path: Option<&'a str>, name: &str) -> Option<&'a str> {
    let (_, query) = path?.split_once('?')?;
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

impl Field {
    fn parse(
        name: &str,
        header: impl Fn(&str) -> Result<HeaderName, FormatError>,
    ) -> Result<Self, FormatError> {
        Ok(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            "x-envoy-original-path" => Self::OriginalPath,
            other => Self::Header(header(other)?),
        })
    }

    fn value<'a>(&self, record: &LogRecord<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Method => record.method.map(str::as_bytes),
            Self::Path => record.path.map(str::as_bytes),
            Self::Authority => record.authority.map(str::as_bytes),
            Self::Scheme => record.scheme.map(str::as_bytes),
            Self::OriginalPath => record.original_path.map(str::as_bytes),
            Self::Header(name) => header(record.request_headers, name),
        }
    }
}
