//! Header changes of routes, virtual hosts and weighted clusters.

use http::{HeaderName, HeaderValue};

/// Headers to add and to remove (`request_headers_to_add`, `…_to_remove`, …).
#[derive(Clone, Debug, Default)]
pub struct HeaderMutations {
    /// Removed first, as Envoy does.
    pub remove: Vec<HeaderName>,
    /// Then added or set, in order.
    pub set: Vec<HeaderSet>,
}

impl HeaderMutations {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty()
    }
}

/// One header to add (`core.v3.HeaderValueOption`).
#[derive(Clone, Debug)]
pub struct HeaderSet {
    /// The name.
    pub name: HeaderName,
    /// The value.
    pub value: HeaderTemplate,
    /// What happens if the header is there already.
    pub action: AppendAction,
    /// `keep_empty_value`
    pub keep_empty: bool,
}

/// `HeaderValueOption.append_action`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// Adds a value; the default.
    #[default]
    AppendIfExistsOrAdd,
    /// Only if the header is absent.
    AddIfAbsent,
    /// Replaces the values or adds.
    OverwriteIfExistsOrAdd,
    /// Only if the header is there.
    OverwriteIfExists,
}

/// A header value with Envoy's substitution operators.
#[derive(Clone, Debug)]
pub enum HeaderTemplate {
    /// No operator: the value itself.
    Fixed(HeaderValue),
    /// Text and operators.
    Parts(Vec<TemplatePart>),
}

/// A part of a [`HeaderTemplate`]: text, or an operator such as `%DOWNSTREAM_REMOTE_ADDRESS%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text as it stands; `%%` has become `%`.
    Text(String),
    /// `%REQ(NAME)%`
    RequestHeader(HeaderName),
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`
    DownstreamRemoteAddress,
    /// `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`
    DownstreamRemoteAddressWithoutPort,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`
    DownstreamLocalAddress,
    /// `%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%`
    DownstreamLocalAddressWithoutPort,
    /// `%DOWNSTREAM_LOCAL_PORT%`
    DownstreamLocalPort,
    /// `%DOWNSTREAM_PEER_URI_SAN%`
    DownstreamPeerUriSan,
    /// `%DOWNSTREAM_PEER_SUBJECT%`
    DownstreamPeerSubject,
    /// `%REQUESTED_SERVER_NAME%`
    RequestedServerName,
    /// `%PROTOCOL%`
    Protocol,
    /// `%START_TIME%` in RFC 3339 with milliseconds.
    StartTime,
    /// `%HOSTNAME%`, resolved when compiled.
    Hostname(String),
    /// `%UPSTREAM_REMOTE_ADDRESS%`
    UpstreamRemoteAddress,
    /// `%RESPONSE_CODE%`
    ResponseCode,
    /// `%RESPONSE_FLAGS%`
    ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`
    ResponseCodeDetails,
}
