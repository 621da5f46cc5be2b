use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use weft_filter_api::Preface;
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::pb::google::protobuf::{Any, Struct};
use weft_xds_proto::{Message, TypedStruct, struct_to_json};

use super::*;
use crate::testing::Fixture;

const NAME: &str = "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange";

fn exchange() -> Arc<PeerExchange> {
    let fields = json!({"protocol": "istio-peer-exchange", "enable_discovery": true});
    let any = TypedStruct::pack(NAME, fields.as_object().expect("an object"));
    let node: Node = weft_xds_proto::from_yaml(
        "{ id: me, metadata: { NAMESPACE: shop, LABELS: { app: cart }, other: x } }",
    )
    .expect("it is a node");
    let fixture = Fixture { node, ..Fixture::default() };
    config::exchange(&any, &fixture.cx()).expect("it compiles")
}

#[test]
fn the_preface_is_that_of_istios_proxy() {
    let exchange = exchange();
    let (header, any) = exchange.preface.split_at(8);
    assert_eq!(header[..4], [0x3d, 0x23, 0x04, 0x67]);
    assert_eq!(u32::from_be_bytes(header[4..].try_into().expect("four")) as usize, any.len());
    let any = Any::decode(any).expect("an Any");
    assert_eq!(any.type_url, "type.googleapis.com/google.protobuf.Struct");
    let said = Struct::decode(any.value.as_slice()).expect("a Struct");
    let said = serde_json::Value::Object(struct_to_json(&said));
    let metadata = json!({"NAMESPACE": "shop", "LABELS": {"app": "cart"}});
    let expected = json!({"x-envoy-peer-metadata": metadata, "x-envoy-peer-metadata-id": "me"});
    assert_eq!(said, expected);
}

#[test]
fn a_preface_is_read_however_it_arrives() {
    let exchange = exchange();
    let bytes = [&exchange.preface[..], b"hello"].concat();
    let length = exchange.preface.len();
    for until in 0..length {
        assert_eq!((exchange.read)(&bytes[..until]), Preface::More, "{until}");
    }
    let Preface::Whole { length: read, metadata } = (exchange.read)(&bytes) else {
        panic!("not whole")
    };
    assert_eq!(read, length);
    let metadata = BASE64_STANDARD.decode(metadata).expect("Base64");
    let metadata = Struct::decode(metadata.as_slice()).expect("a Struct");
    assert_eq!(metadata.fields.len(), 2);
}

#[test]
fn other_bytes_are_left_alone() {
    let exchange = exchange();
    for bytes in [&b"G"[..], b"GET / HTTP/1.1", &[0x3d, 0x23, 0x04, 0x68]] {
        assert_eq!((exchange.read)(bytes), Preface::Absent);
    }
    let broken = [0x3d, 0x23, 0x04, 0x67, 0, 0, 0, 1, 0xff, b'x'];
    assert_eq!((exchange.read)(&broken), Preface::Malformed(8));
    let long = [0x3d, 0x23, 0x04, 0x67, 0xff, 0, 0, 1];
    assert_eq!((exchange.read)(&long), Preface::Malformed(8));
}
