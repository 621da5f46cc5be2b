use http::Request;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, PerRouteConfig,
};

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, Scripted, answer_of, run, stream};

const FOREVER: u64 = 9_999_999_999;

/// A key set with the symmetric key `secret`, and another key.
const KEYS: &str =
    r#"{"keys":[{"kty":"oct","kid":"k","alg":"HS256","k":"c2VjcmV0"},{"kty":"what"}]}"#;

fn compile(yaml: &str, fixture: &Fixture) -> Result<Arc<dyn HttpFilter>, String> {
    let yaml = yaml.replace("KEYS", &format!("local_jwks: {{ inline_string: '{KEYS}' }}"));
    let config: JwtAuthentication = weft_xds_proto::from_yaml(&yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => Ok(filter),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn filter(yaml: &str) -> Arc<dyn HttpFilter> {
    compile(yaml, &Fixture::default()).expect("it is right")
}

fn token(claims: &Value) -> String {
    signed(claims, b"secret", "k")
}

fn signed(claims: &Value, secret: &[u8], key: &str) -> String {
    let header = Header { kid: Some(key.to_owned()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).expect("a token")
}

fn head(token: Option<&str>) -> RequestHead {
    let mut request = Request::builder().uri("/x?y=1").header("host", "shop.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).expect("a request").into_parts().0
}

/// The reply's status and body; `None`: the request passes.
fn answer(filter: &dyn HttpFilter, head: &mut RequestHead) -> Option<(u16, String)> {
    match filter.request(&mut stream(Protocol::Http11), head, None) {
        Flow::Continue => None,
        Flow::Reply(reply) => {
            Some((reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned()))
        }
        Flow::Await(_) => panic!("it waits"),
    }
}

const ONE: &str = "
providers: { p: { issuer: me, audiences: [shop], payload_in_metadata: payload, KEYS } }
rules: [{ match: { prefix: / }, requires: { provider_name: p } }]
";

#[test]
fn a_good_token_passes_and_its_payload_is_told() {
    let filter = filter(
        "
        providers:
          p:
            issuer: me
            payload_in_metadata: payload
            normalize_payload_in_metadata: { space_delimited_claims: [scope] }
            forward_payload_header: x-payload
            pad_forward_payload_header: true
            claim_to_headers: [{ header_name: x-sub, claim_name: sub }, { header_name: x-deep, claim_name: a.b }]
            KEYS
        rules: [{ match: { prefix: / }, requires: { provider_name: p } }]
        ",
    );
    let claims =
        json!({ "iss": "me", "sub": "ann", "exp": FOREVER, "scope": "r w", "a": { "b": 5 } });
    let mut head = head(Some(&token(&claims)));
    head.headers.insert("x-sub", HeaderValue::from_static("forged"));
    let mut cx = stream(Protocol::Http11);
    assert!(matches!(filter.request(&mut cx, &mut head, None), Flow::Continue));
    let said = cx.annotations.as_ref().and_then(|all| all.find(NAMESPACE, &["payload"]));
    let said = said.expect("the payload is told");
    assert_eq!((&said["sub"], &said["scope"]), (&json!("ann"), &json!(["r", "w"])));
    assert!(!head.headers.contains_key("authorization"));
    assert_eq!(head.headers.get_all("x-sub").iter().collect::<Vec<_>>(), ["ann"]);
    assert_eq!(head.headers["x-deep"], "5");
    assert_eq!(head.headers["x-payload"].len() % 4, 0);
}

#[test]
fn what_is_wrong_is_said_as_envoy_says_it() {
    let filter = filter(ONE);
    let good = json!({ "iss": "me", "aud": ["x", "https://shop/"], "exp": FOREVER });
    let changed = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        token(&claims)
    };
    let table = [
        (token(&good), None),
        (changed("exp", json!(1)), Some((401, "Jwt is expired"))),
        (changed("exp", json!("x")), Some((401, "Jwt payload [exp] field is not an integer"))),
        (changed("nbf", json!(FOREVER)), Some((401, "Jwt not yet valid"))),
        (changed("iss", json!("you")), Some((401, "Jwt issuer is not configured"))),
        (changed("aud", json!("other")), Some((403, "Audiences in Jwt are not allowed"))),
        (signed(&good, b"other", "k"), Some((401, "Jwt verification fails"))),
        (
            signed(&good, b"secret", "q"),
            Some((401, "Jwks doesn't have key to match kid or alg from Jwt")),
        ),
        (
            "$.a.b".to_owned(),
            Some((
                401,
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            )),
        ),
        (
            "abc".to_owned(),
            Some((
                401,
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            )),
        ),
    ];
    for (token, wanted) in table {
        let wanted = wanted.map(|(status, body)| (status, body.to_owned()));
        assert_eq!(answer(&*filter, &mut head(Some(&token))), wanted, "{token}");
    }
}

#[test]
fn a_missing_token_is_asked_for() {
    let fixture = Fixture::default();
    let filter = compile(ONE, &fixture).expect("it is right");
    let (mut cx, mut head) = (stream(Protocol::Http11), head(None));
    let Flow::Reply(reply) = filter.request(&mut cx, &mut head, None) else { panic!("refused") };
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (401, &b"Jwt is missing"[..]));
    assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"http://shop.example/x?y=1\"");
    assert_eq!(reply.details, "jwt_authn_access_denied{Jwt_is_missing}");
    let counters = fixture.counters();
    assert!(counters.contains(&("http.in.jwt_authn.denied".to_owned(), 1)), "{counters:?}");
}

#[test]
fn tokens_are_found_in_parameters_and_cookies() {
    let filter = filter(
        "
        providers: { p: { issuer: me, from_params: [t], from_cookies: [c], KEYS } }
        rules: [{ match: { prefix: / }, requires: { provider_name: p } }]
        ",
    );
    let token = token(&json!({ "iss": "me" }));
    let request = Request::builder().uri(format!("/x?a=1&t={token}&b")).body(());
    let mut head = request.expect("a request").into_parts().0;
    assert_eq!(answer(&*filter, &mut head), None);
    assert_eq!(head.uri, "/x?a=1&b");
    let request = Request::builder().uri("/").header("cookie", format!("a=b; c={token}")).body(());
    assert_eq!(answer(&*filter, &mut request.expect("a request").into_parts().0), None);
}

#[test]
fn requirements_are_combined() {
    let rules = |requires: &str| {
        filter(&format!(
            "
            providers: {{ p: {{ issuer: me, forward: true, KEYS }}, q: {{ issuer: you, forward: true, KEYS }} }}
            rules: [{{ match: {{ prefix: / }}, requires: {requires} }}]
            "
        ))
    };
    let (p, q) = (token(&json!({ "iss": "me" })), token(&json!({ "iss": "you" })));
    let (bad, other) =
        (signed(&json!({ "iss": "me" }), b"x", "k"), token(&json!({ "iss": "who" })));
    let any = "{ requires_any: { requirements: [{ provider_name: p }, { provider_name: q }] } }";
    let optional =
        "{ requires_any: { requirements: [{ provider_name: p }, { allow_missing: {} }] } }";
    let both = "{ requires_all: { requirements: [{ provider_name: p }, { provider_name: q }] } }";
    let table = [
        (any, Some(&p), None),
        (any, Some(&q), None),
        (any, Some(&other), Some("Jwt issuer is not configured")),
        (any, Some(&bad), Some("Jwt verification fails")),
        (any, None, Some("Jwt is missing")),
        (optional, None, None),
        (optional, Some(&p), None),
        (optional, Some(&bad), Some("Jwt verification fails")),
        (optional, Some(&other), Some("Jwt issuer is not configured")),
        (both, Some(&p), Some("Jwt issuer is not configured")),
        ("{ allow_missing: {} }", None, None),
        ("{ allow_missing: {} }", Some(&q), None),
        ("{ allow_missing: {} }", Some(&bad), Some("Jwt verification fails")),
        ("{ allow_missing_or_failed: {} }", Some(&bad), None),
        ("{}", None, None),
    ];
    for (requires, token, wanted) in table {
        let answer = answer(&*rules(requires), &mut head(token.map(String::as_str)));
        assert_eq!(answer.map(|(_, body)| body).as_deref(), wanted, "{requires} {token:?}");
    }
}

#[test]
fn routes_disable_and_choose() {
    let filter = filter(
        "
        providers: { p: { issuer: me, KEYS } }
        rules: [{ match: { prefix: / }, requires: { provider_name: p } }]
        requirement_map: { free: { allow_missing: {} } }
        ",
    );
    let route = |yaml: &str| {
        let route: PerRouteConfig = weft_xds_proto::from_yaml(yaml).expect("it is a route's");
        config::per_route(&pack(&route), &mut Fixture::default().cx()).expect("it is right")
    };
    for yaml in ["disabled: true", "requirement_name: free"] {
        let (mut cx, mut head) = (stream(Protocol::Http11), head(None));
        assert!(matches!(filter.request(&mut cx, &mut head, Some(&route(yaml))), Flow::Continue));
    }
    let (mut cx, mut head) = (stream(Protocol::Http11), head(None));
    let unknown = route("requirement_name: nope");
    let Flow::Reply(reply) = filter.request(&mut cx, &mut head, Some(&unknown)) else {
        panic!("it is refused")
    };
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[test]
fn a_wrong_field_is_named() {
    let refused = |yaml: &str| compile(yaml, &Fixture::default()).expect_err("it is wrong");
    let error = refused("providers: { p: { local_jwks: { inline_string: '{}' } } }");
    assert_eq!(
        error,
        "providers[p].local_jwks.inline_string: is not a key set: it has no list named keys"
    );
    let error = refused("rules: [{ match: { prefix: / }, requires: { provider_name: p } }]");
    assert_eq!(error, "rules[0].requires.provider_name: \"p\" is not in providers");
    let error = refused("providers: { p: { remote_jwks: {} } }");
    assert_eq!(error, "providers[p].remote_jwks.http_uri: is required");
}

#[test]
fn keys_are_fetched_once_and_survive_the_issuers_outage() {
    use std::cell::Cell;
    use std::rc::Rc;

    run(async {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let issuer = Scripted::new(move |cluster, request| {
            assert_eq!((cluster, request.uri().path()), ("issuer", "/keys"));
            count.set(count.get() + 1);
            match count.get() {
                2 => Ok(http::Response::new(bytes::Bytes::from_static(KEYS.as_bytes()))),
                _ => Err(weft_filter_api::CalloutError::NoCluster("issuer".into())),
            }
        });
        let filter = filter(
            "{ providers: { p: { remote_jwks: { cache_duration: 0.000001s,
                 http_uri: { uri: 'http://keys.example/keys', cluster: issuer, timeout: 1s } } } },
               rules: [{ match: { prefix: / }, requires: { provider_name: p } }] }",
        );
        let good = token(&json!({ "exp": FOREVER }));
        let ask = async || {
            let mut cx = stream(Protocol::Http11);
            cx.opened = Some(issuer.io(weft_filter_api::MessageBody::default()));
            let mut head = head(Some(&good));
            let reply = answer_of(filter.request(&mut cx, &mut head, None)).await;
            reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned())
        };
        assert_eq!(ask().await.as_deref(), Some("Jwks remote fetch is failed"));
        assert_eq!(ask().await, None);
        // From here on the issuer is gone; the keys are old at once, and serve on.
        for _ in 0..3 {
            assert_eq!(ask().await, None);
            tokio::task::yield_now().await;
        }
        assert!(asked.get() > 2);
    });
}
