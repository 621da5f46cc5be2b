//! Matchers for values of metadata and filter state (`type.matcher.v3.MetadataMatcher`, …).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::Value;
use weft_route::StringMatcher;
use weft_telemetry::Annotations;

/// `MetadataMatcher`
#[derive(Clone, Debug)]
pub(crate) struct MetadataMatcher {
    /// `filter`
    pub(crate) namespace: String,
    /// `path`
    pub(crate) path: Vec<String>,
    /// `value`
    pub(crate) value: ValueMatcher,
    /// `invert`
    pub(crate) invert: bool,
}

/// `ValueMatcher`
#[derive(Clone, Debug)]
pub(crate) enum ValueMatcher {
    /// `null_match`
    Null,
    /// `double_match.exact`
    Exactly(f64),
    /// `double_match.range`: from, and up to but without.
    Range(f64, f64),
    /// `string_match`
    Text(StringMatcher),
    /// `bool_match`
    Bool(bool),
    /// `present_match`
    Present(bool),
    /// `list_match.one_of`
    OneOf(Box<Self>),
    /// `or_match`
    Any(Vec<Self>),
}

impl MetadataMatcher {
    /// Whether dynamic metadata matches; a value that is not there is looked at too.
    pub(crate) fn matches(&self, annotations: Option<&Annotations>) -> bool {
        let value = annotations.and_then(|all| all.find(&self.namespace, &self.path));
        self.value.matches(value) != self.invert
    }
}

/// `FilterStateMatcher`
#[derive(Clone, Debug)]
pub(crate) struct StateMatcher {
    /// `key`
    pub(crate) key: String,
    /// What is asked of the object.
    pub(crate) test: StateTest,
}

/// What is asked of an object of filter state.
#[derive(Clone, Debug)]
pub(crate) enum StateTest {
    /// `string_match`
    Text(StringMatcher),
    /// `address_match`
    Address {
        /// `ranges`
        ranges: Vec<IpNet>,
        /// `invert_match`
        invert: bool,
    },
}

impl StateMatcher {
    /// Whether the object of the stream, or else that of its connection, matches.
    pub(crate) fn matches(&self, all: [Option<&Annotations>; 2]) -> bool {
        let object = all.into_iter().flatten().find_map(|all| all.state(&self.key));
        let Some(text) = object.and_then(Value::as_str) else { return false };
        match &self.test {
            StateTest::Text(matcher) => matcher.matches(text),
            StateTest::Address { ranges, invert } => {
                let ip =
                    text.parse::<IpAddr>().or_else(|_| text.parse().map(|a: SocketAddr| a.ip()));
                ip.is_ok_and(|ip| ranges.iter().any(|range| range.contains(&ip)) != *invert)
            }
        }
    }
}

impl ValueMatcher {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Null, value) => value.is_some_and(Value::is_null),
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (Self::Exactly(wanted), Some(value)) => value.as_f64() == Some(*wanted),
            (Self::Range(from, to), Some(value)) => {
                value.as_f64().is_some_and(|number| (*from..*to).contains(&number))
            }
            (Self::Text(matcher), Some(Value::String(text))) => matcher.matches(text),
            (Self::Bool(wanted), Some(value)) => value.as_bool() == Some(*wanted),
            (Self::OneOf(matcher), Some(Value::Array(values))) => {
                values.iter().any(|value| matcher.matches(Some(value)))
            }
            (Self::Any(matchers), value) => matchers.iter().any(|one| one.matches(value)),
            _ => false,
        }
    }
}
