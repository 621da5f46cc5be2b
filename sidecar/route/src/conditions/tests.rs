use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::smallvec;

use super::*;
use crate::StringPattern;

struct Asked {
    headers: HeaderMap,
    query: Option<&'static str>,
    random: u64,
}

impl Asked {
    fn with(headers: &[(&'static str, &'static str)]) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Self { headers: map, query: None, random: 0 }
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            method: &Method::POST,
            scheme: "https",
            authority: "foo.com",
            path: "/a",
            query: self.query,
            headers: &self.headers,
            random: self.random,
            around: None,
        }
    }
}

fn matcher(field: HeaderField, test: HeaderTest) -> HeaderMatcher {
    HeaderMatcher { field, test, invert: false, missing_as_empty: false }
}

fn named(test: HeaderTest) -> HeaderMatcher {
    matcher(HeaderField::Name(HeaderName::from_static("x-a")), test)
}

fn exact(text: &str) -> HeaderTest {
    HeaderTest::Matches(StringMatcher::exact(text))
}

#[test]
fn values_of_a_repeated_header_match_joined_or_alone() {
    let asked = Asked::with(&[("x-a", "1"), ("x-a", "2")]);
    for text in ["1,2", "1", "2"] {
        assert!(named(exact(text)).holds(&asked.view()), "{text}");
        assert!(!HeaderMatcher { invert: true, ..named(exact(text)) }.holds(&asked.view()));
    }
    assert!(!named(exact("3")).holds(&asked.view()));
}

#[test]
fn a_missing_header_fails_value_tests_even_inverted() {
    let asked = Asked::with(&[]);
    for invert in [false, true] {
        assert!(!HeaderMatcher { invert, ..named(exact("1")) }.holds(&asked.view()));
        assert!(!HeaderMatcher { invert, ..named(HeaderTest::Range(0, 9)) }.holds(&asked.view()));
    }
}

#[test]
fn a_missing_header_can_count_as_empty() {
    let asked = Asked::with(&[]);
    let empty = |invert, test| HeaderMatcher { invert, missing_as_empty: true, ..named(test) };
    assert!(empty(false, exact("")).holds(&asked.view()));
    assert!(empty(true, HeaderTest::Range(0, 10)).holds(&asked.view()));
    assert!(!empty(true, exact("")).holds(&asked.view()));
}

#[test]
fn presence_is_tested_in_all_four_ways() {
    let there = Asked::with(&[("x-a", "")]);
    let missing = Asked::with(&[]);
    for (wanted, invert, asked, holds) in [
        (true, false, &there, true),
        (true, false, &missing, false),
        (true, true, &there, false),
        (true, true, &missing, true),
        (false, false, &there, false),
        (false, false, &missing, true),
        (false, true, &there, true),
        (false, true, &missing, false),
    ] {
        let matcher = HeaderMatcher { invert, ..named(HeaderTest::Present(wanted)) };
        assert_eq!(matcher.holds(&asked.view()), holds, "present {wanted}, invert {invert}");
    }
}

#[test]
fn ranges_are_half_open_integers() {
    let range = named(HeaderTest::Range(-10, 10));
    for (value, holds) in [("-10", true), ("9", true), ("10", false), ("9.5", false), ("", false)] {
        assert_eq!(range.holds(&Asked::with(&[("x-a", value)]).view()), holds, "{value}");
    }
}

#[test]
fn pseudo_headers_can_be_tested() {
    let asked = Asked { query: Some("x=1"), ..Asked::with(&[]) };
    assert!(matcher(HeaderField::Method, exact("POST")).holds(&asked.view()));
    assert!(matcher(HeaderField::Authority, exact("foo.com")).holds(&asked.view()));
    assert!(matcher(HeaderField::Scheme, exact("https")).holds(&asked.view()));
    assert!(matcher(HeaderField::Path, exact("/a?x=1")).holds(&asked.view()));
}

#[test]
fn strings_are_compared_in_every_way() {
    let regex = StringMatcher::full_regex("a+|b").unwrap();
    for (pattern, ignore_case, yes, no) in [
        (StringPattern::Exact("Ab".into()), false, "Ab", "ab"),
        (StringPattern::Exact("Ab".into()), true, "aB", "abc"),
        (StringPattern::Prefix("Ab".into()), false, "Abc", "abc"),
        (StringPattern::Prefix("Ab".into()), true, "aBc", "cab"),
        (StringPattern::Suffix("Ab".into()), false, "cAb", "cab"),
        (StringPattern::Suffix("Ab".into()), true, "caB", "abc"),
        (StringPattern::Contains("Ab".into()), false, "xAbx", "xabx"),
        (StringPattern::Contains("Ab".into()), true, "xaBx", "xx"),
        (StringPattern::Regex(regex.clone()), false, "aaa", "ab"),
        (StringPattern::Regex(regex), true, "b", "B"),
    ] {
        let matcher = StringMatcher::new(pattern, ignore_case);
        assert!(matcher.matches(yes), "{matcher:?} {yes}");
        assert!(!matcher.matches(no), "{matcher:?} {no}");
    }
}

#[test]
fn query_parameters_are_compared_as_they_arrive() {
    let query = |text| Asked { query: text, ..Asked::with(&[]) };
    let conditions = |test| Conditions {
        query: smallvec![QueryMatcher { name: "a".into(), test }],
        ..Conditions::default()
    };
    let is = |text: &str| conditions(QueryTest::Matches(StringMatcher::exact(text)));
    assert!(is("1").hold(&query(Some("b=2&a=1&a=3")).view()));
    assert!(!is("3").hold(&query(Some("a=1&a=3")).view()));
    assert!(is("%20").hold(&query(Some("a=%20")).view()));
    assert!(is("").hold(&query(Some("a")).view()));
    assert!(!is("").hold(&query(None).view()));
    assert!(conditions(QueryTest::Present(true)).hold(&query(Some("a")).view()));
    assert!(conditions(QueryTest::Present(false)).hold(&query(Some("b")).view()));
    assert!(!conditions(QueryTest::Present(true)).hold(&query(Some("aa=1")).view()));
}

#[test]
fn grpc_is_told_by_its_content_type() {
    let conditions = Conditions { grpc: true, ..Conditions::default() };
    for (value, holds) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;x=y", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        assert_eq!(conditions.hold(&Asked::with(&[("content-type", value)]).view()), holds);
    }
}

#[test]
fn a_fraction_takes_its_part_of_the_random_numbers() {
    let conditions = Conditions {
        fraction: Some(Fraction { numerator: 25, denominator: 100 }),
        ..Conditions::default()
    };
    let taken = (0..1000)
        .filter(|random| conditions.hold(&Asked { random: *random, ..Asked::with(&[]) }.view()));
    assert_eq!(taken.count(), 250);
}
