//! Conditions of routes on what is known of a stream besides its request's head.

use std::any::Any;

use weft_filter_api::StreamCx;
use weft_route::Beyond;

use crate::values::{MetadataMatcher, StateMatcher};

/// One condition.
#[derive(Debug)]
pub(crate) enum StreamCondition {
    /// `RouteMatch.dynamic_metadata`
    Metadata(MetadataMatcher),
    /// `RouteMatch.filter_state`
    State(StateMatcher),
    /// `RouteMatch.tls_context`: whether the client has shown a certificate, which is verified then.
    Certificate(bool),
}

impl Beyond for StreamCondition {
    fn holds(&self, around: &dyn Any) -> bool {
        let Some(cx) = around.downcast_ref::<StreamCx>() else { return false };
        match self {
            Self::Metadata(matcher) => matcher.matches(cx.annotations.as_deref()),
            Self::State(matcher) => {
                matcher.matches([cx.annotations.as_deref(), cx.connection.annotations.as_deref()])
            }
            Self::Certificate(wanted) => {
                let tls = cx.connection.tls.as_ref();
                tls.is_some_and(|tls| tls.peer.is_some()) == *wanted
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_filter_api::Protocol;
    use weft_route::{StringMatcher, StringPattern};

    use super::*;
    use crate::testing::stream;
    use crate::values::StateTest;

    #[test]
    fn a_route_asks_what_filters_have_said() {
        let test = StateTest::Text(StringMatcher::new(StringPattern::Exact("blue".into()), false));
        let condition = StreamCondition::State(StateMatcher { key: "color".into(), test });
        let mut cx = stream(Protocol::Http11);
        assert!(!condition.holds(&cx));
        cx.annotate().set_state("color", "blue");
        assert!(condition.holds(&cx));
        assert!(!condition.holds(&"no stream"));
        assert!(StreamCondition::Certificate(false).holds(&cx));
    }
}
