//! Envoy's matchers for values, as those of the request path.

use weft_xds_proto::pb::envoy::r#type::matcher::v3::{
    FilterStateMatcher, MetadataMatcher as PbMetadata, ValueMatcher as PbValue, double_matcher,
    filter_state_matcher::Matcher, list_matcher, metadata_matcher::path_segment, value_matcher,
};

use super::{FieldError, Within, network, string_matcher};
use crate::values::{MetadataMatcher, StateMatcher, StateTest, ValueMatcher};

/// How deep matchers may be nested.
const DEPTH: usize = 16;

/// A condition on dynamic metadata.
pub(crate) fn metadata_matcher(config: &PbMetadata) -> Result<MetadataMatcher, FieldError> {
    if config.filter.is_empty() {
        return Err(FieldError::missing("filter"));
    }
    let mut path = Vec::with_capacity(config.path.len());
    for (index, segment) in config.path.iter().enumerate() {
        match &segment.segment {
            Some(path_segment::Segment::Key(key)) if !key.is_empty() => path.push(key.clone()),
            _ => return Err(FieldError::missing("key")).within_item("path", index),
        }
    }
    if path.is_empty() {
        return Err(FieldError::missing("path"));
    }
    let value = config.value.as_ref().ok_or_else(|| FieldError::missing("value"))?;
    Ok(MetadataMatcher {
        namespace: config.filter.clone(),
        path,
        value: value_matcher(value, DEPTH).within("value")?,
        invert: config.invert,
    })
}

/// A condition on filter state.
pub(crate) fn state_matcher(config: &FilterStateMatcher) -> Result<StateMatcher, FieldError> {
    if config.key.is_empty() {
        return Err(FieldError::missing("key"));
    }
    let test = match &config.matcher {
        Some(Matcher::StringMatch(matcher)) => {
            StateTest::Text(string_matcher(matcher).within("string_match")?)
        }
        Some(Matcher::AddressMatch(matcher)) => {
            let mut ranges = Vec::with_capacity(matcher.ranges.len());
            for (index, range) in matcher.ranges.iter().enumerate() {
                let length = range.prefix_len.as_ref().map(|length| length.value);
                let range = network(&range.address_prefix, length);
                ranges.push(range.within_item("address_match.ranges", index)?);
            }
            StateTest::Address { ranges, invert: matcher.invert_match }
        }
        None => return Err(FieldError::missing("string_match")),
    };
    Ok(StateMatcher { key: config.key.clone(), test })
}

fn value_matcher(config: &PbValue, depth: usize) -> Result<ValueMatcher, FieldError> {
    use value_matcher::MatchPattern as Pattern;
    let deeper = depth.checked_sub(1).ok_or_else(|| FieldError::new("is nested too deeply"))?;
    Ok(match &config.match_pattern {
        None => return Err(FieldError::new("has no pattern")),
        Some(Pattern::NullMatch(_)) => ValueMatcher::Null,
        Some(Pattern::DoubleMatch(double)) => match &double.match_pattern {
            Some(double_matcher::MatchPattern::Exact(number)) => ValueMatcher::Exactly(*number),
            Some(double_matcher::MatchPattern::Range(range)) => {
                ValueMatcher::Range(range.start, range.end)
            }
            None => return Err(FieldError::at("double_match", "has no pattern")),
        },
        Some(Pattern::StringMatch(matcher)) => {
            ValueMatcher::Text(string_matcher(matcher).within("string_match")?)
        }
        Some(Pattern::BoolMatch(wanted)) => ValueMatcher::Bool(*wanted),
        Some(Pattern::PresentMatch(wanted)) => ValueMatcher::Present(*wanted),
        Some(Pattern::ListMatch(list)) => match &list.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(one)) => {
                let one = value_matcher(one, deeper).within("list_match.one_of")?;
                ValueMatcher::OneOf(Box::new(one))
            }
            None => return Err(FieldError::at("list_match", "has no pattern")),
        },
        Some(Pattern::OrMatch(all)) => {
            let each = all.value_matchers.iter().enumerate();
            let each = each.map(|(index, one)| {
                value_matcher(one, deeper).within_item("value_matchers", index)
            });
            ValueMatcher::Any(each.collect::<Result<_, _>>().within("or_match")?)
        }
    })
}
