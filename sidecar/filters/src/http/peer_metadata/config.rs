//! `io.istio.http.peer_metadata.Config`, which travels as a `TypedStruct`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value as Json;
use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::pb::google::protobuf::{Any, Struct, Value, value::Kind};
use weft_xds_proto::{Message, TypedStruct};

use super::PeerMetadata;
use crate::config::{FieldError, header_value};
use crate::{FilterCx, HttpFilterKind};

/// What a workload tells of itself.
const KEYS: [&str; 5] = ["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID", "OWNER"];
/// Of its labels, these.
const LABELS: [&str; 4] =
    ["service.istio.io/canonical-name", "service.istio.io/canonical-revision", "app", "version"];

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let node = cx.node;
    let fields = TypedStruct::open(config)?.value;
    let with_headers = |field: &str| {
        let methods = fields.get(field).and_then(Json::as_array);
        methods.into_iter().flatten().find_map(|method| method.get("istio_headers"))
    };
    let to_upstream = with_headers("upstream_propagation");
    let skip = to_upstream.and_then(|headers| headers.get("skip_external_clusters"));
    Ok(HttpFilterKind::Filter(Arc::new(PeerMetadata {
        from_client: with_headers("downstream_discovery").is_some(),
        to_client: with_headers("downstream_propagation").is_some(),
        from_upstream: with_headers("upstream_discovery").is_some(),
        to_upstream: to_upstream.is_some(),
        skip_external: skip.and_then(Json::as_bool).unwrap_or(false),
        metadata: header_value(BASE64_STANDARD.encode(encode(node)).as_bytes())?,
        id: header_value(node.id.as_bytes())?,
    })))
}

/// The workload's metadata as an encoded `Struct`, its keys sorted.
pub(crate) fn encode(node: &Node) -> Vec<u8> {
    let metadata = node.metadata.as_ref().map(|metadata| &metadata.fields);
    let of = |key: &str| metadata.and_then(|fields| fields.get(key)).cloned();
    let mut fields: BTreeMap<String, Value> =
        KEYS.iter().filter_map(|key| Some(((*key).to_owned(), of(key)?))).collect();
    if let Some(Kind::StructValue(labels)) = of("LABELS").and_then(|labels| labels.kind) {
        let keep = |(key, _): &(String, Value)| LABELS.contains(&key.as_str());
        let fields_kept = labels.fields.into_iter().filter(keep).collect();
        let kept = Kind::StructValue(Struct { fields: fields_kept });
        fields.insert("LABELS".to_owned(), Value { kind: Some(kept) });
    }
    // A map of one entry encodes in one way; one after the other they make the whole.
    fields.into_iter().flat_map(|entry| Struct { fields: [entry].into() }.encode_to_vec()).collect()
}
