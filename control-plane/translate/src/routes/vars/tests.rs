use serde_json::json;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "shorter calls")]
fn compiled(rule: Value) -> Result<Vec<Conditions>, Unsupported> {
    alternatives(&Expr::compile(&rule).expect("a rule"))
}

fn text(matcher: &HeaderMatcher) -> String {
    let Some(HeaderMatchSpecifier::StringMatch(text)) = &matcher.header_match_specifier else {
        panic!("{matcher:?}");
    };
    match text.match_pattern.as_ref().expect("a pattern") {
        weft_xds_proto::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern::SafeRegex(
            regex,
        ) => format!("~{}", regex.regex),
        weft_xds_proto::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern::Exact(
            text,
        ) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn conjunctions_are_one_alternative_and_disjunctions_several() {
    let rule = json!([["http_x_a", "==", "1"], ["OR", ["arg_b", "==", "2"], ["arg_c", "==", "3"]]]);
    let alternatives = compiled(rule).expect("supported");
    assert_eq!(alternatives.len(), 2);
    for alternative in &alternatives {
        assert_eq!(alternative.headers[0].name, "x-a");
    }
    assert_eq!(alternatives[0].query[0].name, "b");
    assert_eq!(alternatives[1].query[0].name, "c");
}

#[test]
fn negation_reaches_the_comparisons() {
    let rule = json!(["!OR", ["http_a", "==", "1"], ["http_b", "~=", "2"]]);
    let alternatives = compiled(rule).expect("supported");
    let headers = &alternatives[0].headers;
    assert_eq!(alternatives.len(), 1);
    assert!(headers[0].invert_match && headers[0].treat_missing_header_as_empty);
    assert!(!headers[1].invert_match && !headers[1].treat_missing_header_as_empty);
}

#[test]
fn expressions_are_found_anywhere_and_lists_match_as_a_whole() {
    let first = |rule| text(&compiled(rule).expect("supported")[0].headers[0]);
    assert_eq!(first(json!([["http_a", "~~", "^x"]])), "~.*(?:^x).*");
    assert_eq!(first(json!([["http_a", "~*", "x"]])), "~.*(?:(?i)x).*");
    assert_eq!(first(json!([["http_a", "in", ["a.b", "c"]]])), "~a\\.b|c");
    assert_eq!(first(json!([["cookie_v", "==", "2"]])), "~(?:.*; *)?v=(?:2)(?: *;.*)?");
    assert_eq!(first(json!([["uri", "~~", "^/a/.+$"]])), "~(?:/a/.+)(?:\\?.*)?");
    assert_eq!(first(json!([["uri", "==", "/a"]])), "~(?:/a)(?:\\?.*)?");
    assert_eq!(first(json!([["request_method", "==", "GET"]])), "GET");
}

#[test]
fn what_a_proxy_cannot_match_is_told() {
    for (rule, word) in [
        (json!([["remote_addr", "ipmatch", ["10.0.0.0/8"]]]), "remote_addr"),
        (json!([["arg_a", "~=", "1"]]), "arg_a"),
        (json!([["arg_a", ">", 1]]), "arg_a"),
        (json!([["http_a", "has", "1"]]), "has"),
        (json!([["http_a", "~~", "(?=x)"]]), "RE2"),
    ] {
        let error = compiled(rule.clone()).expect_err("unsupported");
        assert!(error.to_string().contains(word), "{rule}: {error}");
    }
}

#[test]
fn absence_and_numbers_are_matched_in_headers() {
    let alternatives = compiled(json!([["http_a", "==", null], ["http_b", ">", 5]]));
    let headers = &alternatives.expect("supported")[0].headers;
    assert!(headers[0].invert_match);
    let range = HeaderMatchSpecifier::RangeMatch(Int64Range { start: 6, end: i64::MAX });
    assert_eq!(headers[1].header_match_specifier, Some(range));
}
