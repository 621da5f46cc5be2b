use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use weft_filter_api::{BodyError, MessageBody, Protocol, ReadError};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::decompressor::v3::Decompressor as PbFilter;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, run, stream};

fn gunzip() -> Arc<dyn HttpFilter> {
    let config: PbFilter = weft_xds_proto::from_yaml(
        "decompressor_library: { name: text, typed_config: { '@type':
           type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip,
           max_inflate_ratio: 10 } }",
    )
    .expect("it is a filter");
    match config::compile(&pack(&config), &mut Fixture::default().cx()) {
        Ok(HttpFilterKind::Filter(filter)) => filter,
        other => panic!("{other:?}"),
    }
}

fn gzip(data: &[u8]) -> Bytes {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    coder.write_all(data).expect("there is room");
    coder.finish().expect("there is room").into()
}

#[test]
fn requests_and_responses_are_decompressed() {
    run(async {
        let filter = gunzip();
        let mut cx = stream(Protocol::Http11);
        let request = Request::post("/").header("content-encoding", "br, gzip").body(());
        let mut head = request.expect("a request").into_parts().0;
        cx.io().request = MessageBody::full(gzip(b"hello"));
        filter.request(&mut cx, &mut head, None);
        assert_eq!(head.headers[CONTENT_ENCODING], "br");
        assert_eq!(head.headers[ACCEPT_ENCODING], "gzip");
        assert_eq!(cx.io().request.read(100).await.expect("it is whole"), "hello");
        let mut response = Response::new(()).into_parts().0;
        response.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        cx.io().response = MessageBody::full(gzip(b"world"));
        filter.response(&mut cx, &mut response, None);
        assert!(!response.headers.contains_key(CONTENT_ENCODING));
        assert_eq!(cx.io().response.read(100).await.expect("it is whole"), "world");
    });
}

#[test]
fn what_is_no_gzip_or_grows_without_measure_is_refused() {
    run(async {
        for body in [Bytes::from_static(b"plain, not gzip"), gzip(&vec![0; 1 << 20])] {
            let filter = gunzip();
            let mut cx = stream(Protocol::Http11);
            let request = Request::post("/").header("content-encoding", "gzip").body(());
            let mut head = request.expect("a request").into_parts().0;
            cx.io().request = MessageBody::full(body);
            filter.request(&mut cx, &mut head, None);
            let error = cx.io().request.read(1 << 24).await.expect_err("it is refused");
            assert!(matches!(error, ReadError::Body(BodyError::Refused(_))), "{error:?}");
        }
    });
}
