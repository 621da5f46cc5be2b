use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use weft_filter_api::{MessageBody, Protocol};
use weft_xds_proto::pack;
use weft_xds_proto::pb::envoy::extensions::filters::http::compressor::v3::Compressor as PbFilter;

use super::*;
use crate::HttpFilterKind;
use crate::testing::{Fixture, run, stream};

const GZIP: &str = "compressor_library: { name: text, typed_config: { '@type':
    type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip } }";
const BROTLI: &str = "compressor_library: { name: text, typed_config: { '@type':
    type.googleapis.com/envoy.extensions.compression.brotli.compressor.v3.Brotli } }";

fn compile(fixture: &Fixture, yaml: &str) -> Arc<dyn HttpFilter> {
    let config: PbFilter = weft_xds_proto::from_yaml(yaml).expect("it is a filter");
    match config::compile(&pack(&config), &mut fixture.cx()) {
        Ok(HttpFilterKind::Filter(filter)) => filter,
        other => panic!("{other:?}"),
    }
}

const TEXT: &str = "to be or not to be, that is the question; to be or not to be, that is the \
                    question; to be or not to be, that is the question; to be or not to be";

/// What a client that accepts `accept` gets: the head and the body.
async fn get(
    filters: &[&Arc<dyn HttpFilter>],
    accept: &str,
    headers: &[(&'static str, &'static str)],
) -> (HeaderMap, Bytes) {
    let mut cx = stream(Protocol::Http11);
    let request = Request::get("/").header("accept-encoding", accept).body(());
    let mut head = request.expect("a request").into_parts().0;
    for filter in filters {
        filter.request(&mut cx, &mut head, None);
    }
    let mut response = Response::new(()).into_parts().0;
    response.headers.insert(CONTENT_LENGTH, HeaderValue::from(TEXT.len()));
    for (name, value) in headers {
        response.headers.insert(*name, HeaderValue::from_static(value));
    }
    cx.io().response = MessageBody::full(Bytes::from_static(TEXT.as_bytes()));
    for filter in filters.iter().rev() {
        filter.response(&mut cx, &mut response, None);
    }
    let body = cx.io().response.read(1000).await.expect("it is whole");
    (response.headers, body)
}

#[test]
fn a_client_that_reads_gzip_gets_it() {
    run(async {
        let fixture = Fixture::default();
        let filter = compile(&fixture, &format!("{{ {GZIP} }}"));
        let (headers, body) = get(
            &[&filter],
            "gzip;q=0.8, deflate",
            &[("etag", "\"a\""), ("content-type", "text/html; charset=x")],
        )
        .await;
        assert_eq!(
            (&headers[CONTENT_ENCODING], &headers[VARY]),
            (&HeaderValue::from_static("gzip"), &HeaderValue::from_static("Accept-Encoding"),)
        );
        assert!(!headers.contains_key(ETAG));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).expect("it is gzip");
        assert_eq!(text, TEXT);
        assert!(body.len() < TEXT.len());
        let counts = fixture.counters();
        let count = |name: &str| {
            let name = format!("http.in.compressor.text.gzip.{name}");
            counts.iter().find(|(known, _)| *known == name).expect("it is registered").1
        };
        assert_eq!(count("compressed"), 1);
        assert_eq!(count("total_uncompressed_bytes"), TEXT.len() as u64);
        assert_eq!(count("total_compressed_bytes"), body.len() as u64);
    });
}

#[test]
fn what_is_not_worth_it_or_not_wanted_stays_as_it_is() {
    run(async {
        let filter = compile(&Fixture::default(), &format!("{{ {GZIP} }}"));
        for (accept, headers) in [
            ("br", &[][..]),
            ("gzip;q=0, *;q=0", &[]),
            ("gzip;q=0.5, identity", &[]),
            ("gzip", &[("content-type", "image/png")]),
            ("gzip", &[("content-length", "29")]),
            ("gzip", &[("content-encoding", "br")]),
            ("gzip", &[("cache-control", "no-transform")]),
        ] {
            let (_, body) = get(&[&filter], accept, headers).await;
            assert_eq!(body, TEXT, "{accept} {headers:?}");
        }
    });
}

#[test]
fn the_coding_that_the_client_likes_best_is_chosen() {
    run(async {
        let gzip = compile(&Fixture::default(), &format!("{{ {GZIP} }}"));
        let brotli = compile(&Fixture::default(), &format!("{{ {BROTLI} }}"));
        let both = [&gzip, &brotli];
        for (accept, wanted) in [
            ("gzip, br", "gzip"),
            ("br, gzip", "br"),
            ("gzip;q=0.5, br;q=0.9", "br"),
            ("gzip", "gzip"),
        ] {
            let (headers, _) = get(&both, accept, &[]).await;
            assert_eq!(headers[CONTENT_ENCODING], wanted, "{accept}");
        }
        let (_, body) = get(&both, "br", &[]).await;
        let mut text = String::new();
        brotli::Decompressor::new(&body[..], 4096).read_to_string(&mut text).expect("it is brotli");
        assert_eq!(text, TEXT);
    });
}
