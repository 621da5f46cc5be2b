use bytes::Bytes;
use http::Request;
use weft_filter_api::{MessageBody, Protocol};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::buffer::v3::{
    Buffer as PbFilter, BufferPerRoute,
};

use super::*;
use crate::testing::{Fixture, answer_of, run, stream};

#[test]
fn a_body_is_read_up_to_the_limit_of_filter_or_route() {
    run(async {
        let route = |yaml: &str| {
            let config: BufferPerRoute = weft_xds_proto::from_yaml(yaml).expect("it is right");
            config::per_route(&pack(&config), &mut Fixture::default().cx()).expect("it is right")
        };
        let (off, more) =
            (route("{ disabled: true }"), route("{ buffer: { max_request_bytes: 4 } }"));
        for (route, refused, length) in
            [(None, true, None), (Some(&off), false, None), (Some(&more), false, Some("4"))]
        {
            let mut cx = stream(Protocol::Http11);
            cx.io().request = MessageBody::full(Bytes::from_static(b"abcd"));
            let mut head = Request::post("/").body(()).expect("a request").into_parts().0;
            let reply = answer_of(Buffer(3).request(&mut cx, &mut head, route)).await;
            assert_eq!(reply.map(|reply| reply.status.as_u16()), refused.then_some(413));
            let told = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
            assert_eq!(told, length);
        }
    });
}

#[test]
fn a_limit_is_required() {
    let compiled = config::compile(&pack(&PbFilter::default()), &mut Fixture::default().cx());
    let error = compiled.expect_err("it is wrong").to_string();
    assert_eq!(error, "max_request_bytes: is required");
}
