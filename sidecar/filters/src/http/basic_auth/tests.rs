use http::Request;
use weft_filter_api::Protocol;
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::basic_auth::v3::BasicAuth as PbFilter;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, stream};

/// `htpasswd -nbs user test`
const USERS: &str = "user:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=";

fn compile(fixture: &Fixture, yaml: &str) -> Result<Arc<dyn HttpFilter>, String> {
    let config: PbFilter = weft_xds_proto::from_yaml(yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => Ok(filter),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn ask(filter: &dyn HttpFilter, given: Option<&str>) -> (Option<LocalReply>, RequestHead) {
    let mut request = Request::builder().uri("/x").header("host", "shop.example");
    if let Some(given) = given {
        request = request.header("authorization", given);
    }
    let mut head = request.body(()).expect("a request").into_parts().0;
    let mut cx = stream(Protocol::Http11);
    let reply = match filter.request(&mut cx, &mut head, None) {
        Flow::Continue => None,
        Flow::Reply(reply) => Some(reply),
        Flow::Await(_) => panic!("it waits"),
    };
    (reply, head)
}

#[test]
fn who_has_the_password_passes() {
    let fixture = Fixture::default();
    let yaml =
        format!("{{ users: {{ inline_string: '{USERS}' }}, forward_username_header: x-user }}");
    let filter = compile(&fixture, &yaml).expect("it is right");
    let basic = |both: &str| format!("Basic {}", BASE64_STANDARD.encode(both));
    let (reply, head) = ask(&*filter, Some(&basic("user:test")));
    assert!(reply.is_none());
    assert_eq!(head.headers["x-user"], "user");
    for wrong in ["user:tset", "nobody:test", "user"] {
        let (reply, _) = ask(&*filter, Some(&basic(wrong)));
        let reply = reply.expect("it is refused");
        assert_eq!((reply.status.as_u16(), &*reply.details), (401, WRONG.1));
        assert_eq!(reply.headers[WWW_AUTHENTICATE], "Basic realm=\"http://shop.example/x\"");
    }
    for missing in [None, Some("Bearer x")] {
        let (reply, _) = ask(&*filter, missing);
        assert_eq!(&*reply.expect("it is refused").details, MISSING.1);
    }
    let wanted = [("allowed", 1), ("denied", 5)];
    let wanted = wanted.map(|(name, n)| (format!("http.in.basic_auth.{name}"), n));
    assert_eq!(fixture.counters(), wanted);
}

#[test]
fn a_wrong_list_is_refused_without_its_hashes() {
    for (users, wanted) in [
        ("a", "users.inline_string: line 1: has no colon"),
        ("a:{MD5}x", "users.inline_string: line 1: is not a {SHA} hash"),
        ("", "users.inline_string: names nobody"),
    ] {
        let yaml = format!("{{ users: {{ inline_string: '{users}' }} }}");
        assert_eq!(compile(&Fixture::default(), &yaml).err().as_deref(), Some(wanted));
    }
}
