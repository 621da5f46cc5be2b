//! Envoy's matchers as those of the request path.

use regex::Regex;
use weft_route::{
    HeaderField, HeaderMatcher, HeaderTest, QueryMatcher, QueryTest, StringMatcher, StringPattern,
};
use weft_xds_proto::pb::envoy::config::route::v3::{
    HeaderMatcher as PbHeader, QueryParameterMatcher, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, StringMatcher as PbString, string_matcher::MatchPattern,
};

use super::{FieldError, Within, header_name};

/// An expression that has to match the whole of a string.
///
/// # Errors
/// It does not compile.
pub fn full_regex(expression: &str) -> Result<Regex, FieldError> {
    // A broken group could otherwise be made whole by the anchors that are put around it.
    Regex::new(expression)
        .and_then(|_| StringMatcher::full_regex(expression))
        .map_err(|error| regex_error(expression, &error))
}

fn regex_error(expression: &str, error: &regex::Error) -> FieldError {
    let detail = error.to_string();
    let last = detail.lines().last().unwrap_or_default().trim_start_matches("error: ");
    FieldError::new(format!("{expression:?} is not a regular expression: {last}"))
}

/// A string matcher.
///
/// # Errors
/// A broken expression, an empty pattern where that means nothing, a custom matcher.
pub fn string_matcher(matcher: &PbString) -> Result<StringMatcher, FieldError> {
    let pattern = match &matcher.match_pattern {
        None => {
            return Err(FieldError::new(
                "has no pattern: give exact, prefix, suffix, contains or safe_regex",
            ));
        }
        Some(MatchPattern::Exact(text)) => StringPattern::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => StringPattern::Prefix(nonempty(text, "prefix")?),
        Some(MatchPattern::Suffix(text)) => StringPattern::Suffix(nonempty(text, "suffix")?),
        Some(MatchPattern::Contains(text)) => StringPattern::Contains(nonempty(text, "contains")?),
        Some(MatchPattern::SafeRegex(regex)) => {
            StringPattern::Regex(full_regex(&regex.regex).within("safe_regex")?)
        }
        Some(MatchPattern::Custom(_)) => return Err(FieldError::unsupported("custom")),
    };
    Ok(StringMatcher::new(pattern, matcher.ignore_case))
}

fn nonempty(text: &str, field: &str) -> Result<String, FieldError> {
    if text.is_empty() { Err(FieldError::missing(field)) } else { Ok(text.to_owned()) }
}

/// A condition on a header or pseudo-header.
///
/// # Errors
/// A name that is none, a broken pattern.
#[expect(deprecated, reason = "control planes still send the older fields")]
pub fn header_matcher(matcher: &PbHeader) -> Result<HeaderMatcher, FieldError> {
    use HeaderMatchSpecifier as Spec;
    let field = match matcher.name.as_str() {
        ":method" => HeaderField::Method,
        ":authority" => HeaderField::Authority,
        ":path" => HeaderField::Path,
        ":scheme" => HeaderField::Scheme,
        name if name.eq_ignore_ascii_case("host") => HeaderField::Authority,
        name => HeaderField::Name(header_name(name).within("name")?),
    };
    let matches = |pattern| HeaderTest::Matches(StringMatcher::new(pattern, false));
    let test = match &matcher.header_match_specifier {
        None => HeaderTest::Present(true),
        Some(Spec::PresentMatch(present)) => HeaderTest::Present(*present),
        Some(Spec::StringMatch(pattern)) => {
            HeaderTest::Matches(string_matcher(pattern).within("string_match")?)
        }
        Some(Spec::ExactMatch(text)) => matches(StringPattern::Exact(text.clone())),
        Some(Spec::PrefixMatch(text)) => matches(StringPattern::Prefix(text.clone())),
        Some(Spec::SuffixMatch(text)) => matches(StringPattern::Suffix(text.clone())),
        Some(Spec::ContainsMatch(text)) => matches(StringPattern::Contains(text.clone())),
        Some(Spec::SafeRegexMatch(regex)) => {
            matches(StringPattern::Regex(full_regex(&regex.regex).within("safe_regex_match")?))
        }
        Some(Spec::RangeMatch(range)) => HeaderTest::Range(range.start, range.end),
    };
    Ok(HeaderMatcher {
        field,
        test,
        invert: matcher.invert_match,
        missing_as_empty: matcher.treat_missing_header_as_empty,
    })
}

/// A condition on a query parameter.
///
/// # Errors
/// No name, a broken pattern.
pub fn query_matcher(matcher: &QueryParameterMatcher) -> Result<QueryMatcher, FieldError> {
    use QueryParameterMatchSpecifier as Spec;
    let name = nonempty(&matcher.name, "name")?;
    let test = match &matcher.query_parameter_match_specifier {
        None => QueryTest::Present(true),
        Some(Spec::PresentMatch(present)) => QueryTest::Present(*present),
        Some(Spec::StringMatch(pattern)) => {
            QueryTest::Matches(string_matcher(pattern).within("string_match")?)
        }
    };
    Ok(QueryMatcher { name, test })
}

/// A replacement by expression: the expression and the text in the crate `regex`'s spelling
/// (`\1` becomes `${1}`).
///
/// # Errors
/// The expression does not compile, or the text refers to a group that it does not have.
pub fn regex_substitution(
    rewrite: &RegexMatchAndSubstitute,
) -> Result<(Regex, String), FieldError> {
    let pattern = rewrite.pattern.as_ref().ok_or_else(|| FieldError::missing("pattern"))?;
    let regex = Regex::new(&pattern.regex)
        .map_err(|error| regex_error(&pattern.regex, &error))
        .within("pattern.regex")?;
    let substitution =
        substitution(&rewrite.substitution, regex.captures_len()).within("substitution")?;
    Ok((regex, substitution))
}

fn substitution(text: &str, groups: usize) -> Result<String, FieldError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, if char == '\\' { chars.next() } else { None }) {
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                if digit.to_digit(10).is_none_or(|group| group as usize >= groups) {
                    return Err(FieldError::new(format!(
                        "\\{digit} refers to a group that the expression does not have"
                    )));
                }
                out.push_str(&format!("${{{digit}}}"));
            }
            ('\\', _) => {
                return Err(FieldError::new("a backslash stands before a digit or a backslash"));
            }
            ('$', _) => out.push_str("$$"),
            (other, _) => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_references_take_the_spelling_of_the_regex_crate() {
        assert_eq!(substitution(r"\1/$x/\\", 2).expect("it is right"), r"${1}/$$x/\");
        assert!(substitution(r"\2", 2).is_err());
        assert!(substitution(r"a\", 2).is_err());
    }

    #[test]
    fn anchors_do_not_make_a_broken_expression_whole() {
        assert!(full_regex("a)(b").is_err());
        assert!(full_regex("a|b").expect("it is right").is_match("b"));
        assert!(!full_regex("a|b").expect("it is right").is_match("bc"));
    }
}
