//! What a service says, whoever was asked.

use http::header::Entry;
use http::request::Parts as RequestHead;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use weft_model::AppendAction;

/// The decision.
pub(super) enum Verdict {
    Allowed(Box<Changes>),
    /// Denied, with what other filters are told.
    Denied(Denial, Map<String, Value>),
    /// There was no decision; the service may have said what to reply.
    Failed(Option<Denial>),
}

/// How a request that may pass is changed.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) set: Vec<HeaderChange>,
    pub(super) remove: Vec<HeaderName>,
    /// Of the response.
    pub(super) to_client: Vec<HeaderChange>,
    pub(super) query: QueryChanges,
    /// `dynamic_metadata`
    pub(super) metadata: Map<String, Value>,
    /// Whether something can't be done.
    pub(super) invalid: bool,
}

/// What a client is told whose request may not pass.
#[derive(Default)]
pub(super) struct Denial {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<HeaderChange>,
    pub(super) body: String,
    /// Whether something of it can't be sent.
    pub(super) invalid: bool,
}

impl Denial {
    /// A bare status.
    pub(super) fn of(status: StatusCode) -> Self {
        Self { status, ..Self::default() }
    }
}

/// A header to add.
#[derive(Clone, Debug)]
pub(super) struct HeaderChange {
    pub(super) name: HeaderName,
    pub(super) value: HeaderValue,
    pub(super) action: Action,
}

/// What happens to values that are there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// `append_action`
    As(AppendAction),
    /// The value is joined to the one that is there (`append`).
    Join,
}

impl HeaderChange {
    /// Sets a header.
    pub(super) fn set(name: HeaderName, value: HeaderValue) -> Self {
        Self { name, value, action: Action::As(AppendAction::OverwriteIfExistsOrAdd) }
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        match self.action {
            Action::As(action) => action.apply(headers, &self.name, self.value.clone()),
            Action::Join => match headers.entry(&self.name) {
                Entry::Occupied(mut known) => {
                    let both = [known.get().as_bytes(), self.value.as_bytes()].join(&b","[..]);
                    if let Ok(both) = HeaderValue::from_bytes(&both) {
                        known.insert(both);
                    }
                }
                Entry::Vacant(free) => {
                    free.insert(self.value.clone());
                }
            },
        }
    }
}

/// `query_parameters_to_set` and `query_parameters_to_remove`
#[derive(Default)]
pub(super) struct QueryChanges {
    pub(super) set: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
}

impl QueryChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// Changes the request's target; names that are set keep their first place.
    pub(super) fn apply(&self, head: &mut RequestHead) {
        if self.is_empty() {
            return;
        }
        let query = head.uri.query().unwrap_or_default();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !self.remove.iter().any(|removed| removed == name) {
                pairs.push((name.to_owned(), value.to_owned()));
            }
        }
        for (name, value) in &self.set {
            let at = pairs.iter().position(|(known, _)| known == name);
            pairs.retain({
                let mut index = 0;
                move |(known, _)| {
                    let keep = known != name || Some(index) == at;
                    index += 1;
                    keep
                }
            });
            match at {
                Some(at) => pairs[at].1.clone_from(value),
                None => pairs.push((name.clone(), value.clone())),
            }
        }
        let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = head.uri.path();
        let whole = match query.is_empty() {
            true => path.to_owned(),
            false => format!("{path}?{}", query.join("&")),
        };
        let Ok(whole) = PathAndQuery::try_from(whole) else { return };
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = Some(whole);
        head.uri = http::Uri::from_parts(parts).unwrap_or_default();
    }
}
