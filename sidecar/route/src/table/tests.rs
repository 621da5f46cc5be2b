use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::{HeaderField, HeaderMatcher, HeaderTest, StringMatcher};

fn rule(path: PathMatch, value: usize) -> RouteRule<usize> {
    RouteRule { path, conditions: Conditions::default(), value }
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix { text: text.into(), ignore_case: false }
}

fn exact(text: &str) -> PathMatch {
    PathMatch::Exact { text: text.into(), ignore_case: false }
}

fn regex(text: &str) -> PathMatch {
    PathMatch::Regex(StringMatcher::full_regex(text).unwrap())
}

fn table(paths: Vec<PathMatch>) -> RouteTable<(), usize> {
    let routes = paths.into_iter().enumerate().map(|(value, path)| rule(path, value)).collect();
    let host = HostRule { domains: vec!["*".into()], value: (), routes };
    RouteTable::compile(vec![host], TableOptions::default()).unwrap()
}

fn view<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestView<'a> {
    RequestView {
        method: &Method::GET,
        scheme: "http",
        authority: "foo.com",
        path,
        query: Some("q=/b"),
        headers,
        random: 0,
        around: None,
    }
}

fn found(table: &RouteTable<(), usize>, path: &str) -> Option<usize> {
    match table.find(&view(path, &HeaderMap::new())) {
        Outcome::Route((), route) => Some(*route),
        Outcome::NoRoute(()) | Outcome::NoHost => None,
    }
}

#[test]
fn the_first_match_in_the_order_of_the_configuration_wins() {
    let routes = table(vec![prefix("/api/v1"), exact("/api"), prefix("/api"), prefix("/")]);
    assert_eq!(found(&routes, "/api/v1/x"), Some(0));
    assert_eq!(found(&routes, "/api"), Some(1));
    assert_eq!(found(&routes, "/api/"), Some(2));
    assert_eq!(found(&routes, "/x"), Some(3));
    let broad_first = table(vec![prefix("/"), exact("/api"), regex("/api.*")]);
    assert_eq!(found(&broad_first, "/api"), Some(0));
}

#[test]
fn a_separated_prefix_ends_at_a_slash() {
    let routes = table(vec![PathMatch::Separated { text: "/api/dev".into(), ignore_case: false }]);
    for path in ["/api/dev", "/api/dev/", "/api/dev/v1"] {
        assert_eq!(found(&routes, path), Some(0), "{path}");
    }
    for path in ["/api/developer", "/api/de", "/api"] {
        assert_eq!(found(&routes, path), None, "{path}");
    }
}

#[test]
fn case_can_be_ignored() {
    let routes = table(vec![
        PathMatch::Exact { text: "/Exact".into(), ignore_case: true },
        PathMatch::Prefix { text: "/PREFIX".into(), ignore_case: true },
        PathMatch::Separated { text: "/Sep".into(), ignore_case: true },
    ]);
    assert_eq!(found(&routes, "/eXACT"), Some(0));
    assert_eq!(found(&routes, "/prefix/x"), Some(1));
    assert_eq!(found(&routes, "/sEP/x"), Some(2));
    assert_eq!(found(&routes, "/separate"), None);
}

#[test]
fn an_expression_has_to_match_the_whole_path() {
    let routes = table(vec![regex("/a/[0-9]+"), regex("/b|/c")]);
    assert_eq!(found(&routes, "/a/12"), Some(0));
    assert_eq!(found(&routes, "/a/12/x"), None);
    assert_eq!(found(&routes, "/x/a/12"), None);
    assert_eq!(found(&routes, "/c"), Some(1));
}

#[test]
fn connect_without_a_path_belongs_to_connect_routes() {
    let routes = table(vec![prefix(""), PathMatch::Connect]);
    let headers = HeaderMap::new();
    let request = RequestView { method: &Method::CONNECT, ..view("", &headers) };
    assert!(matches!(routes.find(&request), Outcome::Route((), 1)));
    assert_eq!(found(&routes, "/"), Some(0));
}

#[test]
fn a_candidate_whose_conditions_fail_is_passed_over() {
    let wanted = HeaderMatcher {
        field: HeaderField::Name(http::HeaderName::from_static("x-canary")),
        test: HeaderTest::Matches(StringMatcher::exact("yes")),
        invert: false,
        missing_as_empty: false,
    };
    let mut canary = rule(exact("/a"), 0);
    canary.conditions.headers.push(wanted);
    let host = HostRule {
        domains: vec!["foo.com".into()],
        value: "host",
        routes: vec![canary, rule(prefix("/"), 1)],
    };
    let routes = RouteTable::compile(vec![host], TableOptions::default()).unwrap();
    let mut headers = HeaderMap::new();
    assert!(matches!(routes.find(&view("/a", &headers)), Outcome::Route(&"host", 1)));
    headers.insert("x-canary", HeaderValue::from_static("yes"));
    assert!(matches!(routes.find(&view("/a", &headers)), Outcome::Route(&"host", 0)));
}

#[test]
fn no_host_and_no_route_are_told_apart() {
    let host = |domain: &str| HostRule {
        domains: vec![domain.into()],
        value: (),
        routes: vec![rule(exact("/a"), 0)],
    };
    let headers = HeaderMap::new();
    let other = RouteTable::compile(vec![host("bar.com")], TableOptions::default()).unwrap();
    assert!(matches!(other.find(&view("/a", &headers)), Outcome::NoHost));
    let same = RouteTable::compile(vec![host("foo.com")], TableOptions::default()).unwrap();
    assert!(matches!(same.find(&view("/b", &headers)), Outcome::NoRoute(())));
}

#[test]
fn a_bad_domain_is_named_with_its_place() {
    let host = |domains: &[&str]| HostRule {
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        value: (),
        routes: Vec::<RouteRule<()>>::new(),
    };
    let hosts = vec![host(&["a.com"]), host(&["b.com", "A.com"])];
    let error = RouteTable::compile(hosts, TableOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("virtual_hosts[1].domains[1]: "), "{error}");
    let error = RouteTable::compile(vec![host(&["a.*.com"])], TableOptions::default()).unwrap_err();
    assert!(matches!(error, CompileError::BadDomain { host: 0, domain: 0, .. }));
}

#[test]
fn ten_thousand_routes_leave_one_candidate() {
    let routes: Vec<_> = (0..10_000)
        .map(|at| {
            if at % 2 == 0 {
                prefix(&format!("/svc-{at}/"))
            } else {
                regex(&format!("/svc-{at}/[a-z]+"))
            }
        })
        .collect();
    let table = table(routes);
    for at in [0, 4_998, 9_999] {
        let mut tried = Vec::new();
        let first = table.hosts[0].paths.first(&format!("/svc-{at}/x"), |route| {
            tried.push(route);
            route == at
        });
        assert_eq!((first, tried), (Some(at), vec![at]));
    }
}

fn any_path() -> impl Strategy<Value = String> {
    "(/[aAbB]{0,2}){0,4}"
}

fn any_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        (any_path(), any::<bool>())
            .prop_map(|(text, ignore_case)| PathMatch::Prefix { text, ignore_case }),
        (any_path(), any::<bool>())
            .prop_map(|(text, ignore_case)| PathMatch::Exact { text, ignore_case }),
        (any_path(), any::<bool>())
            .prop_map(|(text, ignore_case)| PathMatch::Separated { text, ignore_case }),
        "(/[ab]{0,2}[+*?]?){1,3}(\\.\\*|[|]/a)?"
            .prop_filter_map("not an expression", |text| StringMatcher::full_regex(&text).ok())
            .prop_map(PathMatch::Regex),
        Just(PathMatch::Connect),
    ]
}

proptest! {
    #[test]
    fn the_index_finds_what_a_walk_through_the_list_finds(
        paths in prop::collection::vec(any_match(), 0..40),
        asked in prop::collection::vec(any_path(), 1..20),
    ) {
        let headers = HeaderMap::new();
        let table = table(paths.clone());
        for path in asked {
            let naive = paths.iter().position(|wanted| wanted.matches(&view(&path, &headers)));
            prop_assert_eq!(found(&table, &path), naive, "path {}", path);
        }
    }
}
