use http::Request;

use super::*;

fn head(uri: &str, headers: &[(&'static str, &'static str)]) -> RequestHead {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn the_authority_is_found_and_set_where_it_stands() {
    let mut http1 = head("/a", &[("host", "one.com")]);
    assert_eq!(authority(&http1), "one.com");
    set_authority(&mut http1, &HeaderValue::from_static("two.com"));
    assert_eq!((authority(&http1), http1.uri.to_string().as_str()), ("two.com", "/a"));
    let mut http2 = head("https://one.com/a?b", &[]);
    set_authority(&mut http2, &HeaderValue::from_static("two.com"));
    assert_eq!(http2.uri, "https://two.com/a?b");
    assert!(http2.headers.is_empty());
}

#[test]
fn ports_are_stripped_but_not_from_addresses() {
    for (host, expected) in [
        ("a.com:80", "a.com"),
        ("a.com", "a.com"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("a.com:", "a.com:"),
    ] {
        let mut head = head("/", &[("host", host)]);
        strip_port(&mut head, StripPort::Any, 1);
        assert_eq!(authority(&head), expected);
    }
}

#[test]
fn a_port_that_is_not_the_listeners_may_stay() {
    for (host, expected) in [("a.com:80", "a.com"), ("a.com:81", "a.com:81"), ("a.com", "a.com")] {
        let mut head = head("/", &[("host", host)]);
        strip_port(&mut head, StripPort::Matching, 80);
        assert_eq!(authority(&head), expected);
    }
    let mut connect = head("a.com:80", &[]);
    connect.method = Method::CONNECT;
    strip_port(&mut connect, StripPort::Any, 80);
    assert_eq!(authority(&connect), "a.com:80");
}

#[test]
fn a_dot_behind_the_host_may_be_stripped() {
    for (host, expected) in [("a.com.", "a.com"), ("a.com.:80", "a.com:80"), ("a.com", "a.com")] {
        let mut head = head("/", &[("host", host)]);
        strip_dot(&mut head);
        assert_eq!(authority(&head), expected);
    }
}

#[test]
fn only_real_upgrades_are_upgrades() {
    let upgrade = |headers: &[_]| is_upgrade(&head("/", headers));
    assert!(upgrade(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
    assert!(!upgrade(&[("connection", "keep-alive"), ("upgrade", "websocket")]));
    assert!(!upgrade(&[("connection", "upgrade"), ("upgrade", "h2c")]));
    assert!(!upgrade(&[("connection", "upgrade")]));
}

#[test]
fn grpc_is_told_by_its_content_type() {
    for (kind, expected) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc;charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        assert_eq!(is_grpc(&head("/", &[("content-type", kind)]).headers), expected, "{kind}");
    }
}
