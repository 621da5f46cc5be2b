//! The variables of a request, under the names that nginx and APISIX give them.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{COOKIE, HOST};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use weft_apisix::Variables;
use weft_filter_api::{Protocol, StreamCx};

use crate::chain::Place;
use crate::run::Run;

/// What variables are read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) cx: &'a StreamCx,
    pub(crate) request: Option<&'a RequestHead>,
    pub(crate) response: Option<&'a ResponseHead>,
    pub(crate) run: &'a Run,
    pub(crate) place: &'a Place,
}

impl Variables for View<'_> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        if let Some(name) = name.strip_prefix("sent_http_") {
            return header(&self.response?.headers, name);
        }
        self.request
            .and_then(|head| of_head(head, name))
            .or_else(|| self.of_connection(name))
            .or_else(|| self.of_place(name))
            .or_else(|| self.of_moment(name))
    }
}

impl<'a> View<'a> {
    fn of_connection(&self, name: &str) -> Option<Cow<'a, str>> {
        let connection = &*self.cx.connection;
        Some(Cow::Owned(match name {
            "remote_addr" => self.cx.remote.ip().to_string(),
            "remote_port" => self.cx.remote.port().to_string(),
            "realip_remote_addr" => connection.remote.ip().to_string(),
            "server_addr" => connection.local.ip().to_string(),
            "server_port" => connection.local.port().to_string(),
            "server_protocol" => match self.cx.protocol {
                Protocol::Http2 => "HTTP/2.0".to_owned(),
                other => other.as_str().to_owned(),
            },
            "connection" => connection.id.to_string(),
            "ssl_server_name" => connection.server_name.as_deref()?.to_owned(),
            "ssl_protocol" => connection.tls.as_ref()?.version.to_owned(),
            "ssl_cipher" => connection.tls.as_ref()?.cipher.clone(),
            _ => return None,
        }))
    }

    fn of_place(&self, name: &str) -> Option<Cow<'a, str>> {
        let credential = self.run.credential.as_deref();
        let text = match name {
            "consumer_name" => credential?.consumer.name.as_str(),
            "consumer_group_id" => credential?.consumer.group.as_deref()?,
            "credential_id" => credential?.id.as_deref()?,
            "route_id" => self.place.route_id.as_deref()?,
            "route_name" => self.place.route_name.as_deref()?,
            "service_id" => self.place.service_id.as_deref()?,
            "service_name" => self.place.service_name.as_deref()?,
            _ => return None,
        };
        Some(Cow::Borrowed(text))
    }

    fn of_moment(&self, name: &str) -> Option<Cow<'a, str>> {
        let upstream = || self.cx.upstream_host;
        Some(Cow::Owned(match name {
            "status" => self.response?.status.as_u16().to_string(),
            "upstream_status" => {
                upstream()?;
                self.response?.status.as_u16().to_string()
            }
            "upstream_addr" => upstream()?.to_string(),
            "balancer_ip" => upstream()?.ip().to_string(),
            "balancer_port" => upstream()?.port().to_string(),
            "request_time" => format!("{:.3}", self.cx.started.elapsed().as_secs_f64()),
            "msec" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                format!("{:.3}", now.as_secs_f64())
            }
            _ => return None,
        }))
    }
}

/// A variable that the request's head alone says.
pub(crate) fn of_head<'a>(head: &'a RequestHead, name: &str) -> Option<Cow<'a, str>> {
    if let Some(name) = name.strip_prefix("http_") {
        return header(&head.headers, name);
    }
    if let Some(name) = name.strip_prefix("arg_") {
        return argument(head.uri.query()?, name);
    }
    if let Some(name) = name.strip_prefix("cookie_") {
        return cookie(&head.headers, name).map(Cow::Borrowed);
    }
    Some(match name {
        "uri" => Cow::Borrowed(head.uri.path()),
        "request_uri" | "real_request_uri" => {
            Cow::Borrowed(head.uri.path_and_query().map_or("/", |path| path.as_str()))
        }
        "query_string" | "args" => Cow::Borrowed(head.uri.query()?),
        "is_args" => Cow::Borrowed(if head.uri.query().is_some() { "?" } else { "" }),
        "host" | "server_name" => host(head)?,
        "request_method" | "method" => Cow::Borrowed(head.method.as_str()),
        "scheme" => Cow::Borrowed(scheme(head)),
        "content_type" | "content_length" => return header(&head.headers, name),
        _ => return None,
    })
}

/// The host without its port, lower case.
pub(crate) fn host(head: &RequestHead) -> Option<Cow<'_, str>> {
    let authority = authority(head)?;
    let host = match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => {
            &authority[..colon]
        }
        _ => authority,
    };
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

/// The host with its port, as the client gave it.
pub(crate) fn authority(head: &RequestHead) -> Option<&str> {
    let of_uri = head.uri.authority().map(http::uri::Authority::as_str);
    of_uri.or_else(|| head.headers.get(HOST)?.to_str().ok())
}

/// `http` or `https`, as the connection manager found it.
pub(crate) fn scheme(head: &RequestHead) -> &str {
    let told = head.headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    told.or(head.uri.scheme_str()).unwrap_or("http")
}

/// A header by its name with underscores.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let name = name.replace('_', "-");
    let mut values = headers.get_all(name.as_str()).iter();
    let first = text(values.next()?);
    if values.next().is_none() {
        return Some(first);
    }
    let all: Vec<_> = headers.get_all(name.as_str()).iter().map(text).collect();
    Some(Cow::Owned(all.join(", ")))
}

fn text(value: &http::HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// The first value of a parameter of the query.
pub(crate) fn argument<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A cookie's value.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}
