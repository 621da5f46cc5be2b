//! What a workload says of itself.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use weft_xds_proto::Message;
use weft_xds_proto::pb::google::protobuf::{Struct, value::Kind};

/// A workload; what it does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(super) workload: String,
    pub(super) namespace: String,
    pub(super) canonical_name: String,
    pub(super) canonical_revision: String,
    pub(super) app: String,
    pub(super) version: String,
    pub(super) cluster: String,
}

impl Peer {
    /// Of the metadata of a node.
    pub(crate) fn of(metadata: &Struct) -> Self {
        let labels = match metadata.fields.get("LABELS").and_then(|labels| labels.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => Some(labels),
            _ => None,
        };
        let label = |name: &str| labels.map(|labels| text(labels, name)).unwrap_or_default();
        Self {
            workload: text(metadata, "WORKLOAD_NAME"),
            namespace: text(metadata, "NAMESPACE"),
            canonical_name: label("service.istio.io/canonical-name"),
            canonical_revision: label("service.istio.io/canonical-revision"),
            app: label("app"),
            version: label("version"),
            cluster: text(metadata, "CLUSTER_ID"),
        }
    }

    /// Of `x-envoy-peer-metadata`.
    pub(super) fn decode(header: &[u8]) -> Option<Self> {
        let encoded = BASE64_STANDARD.decode(header).ok()?;
        Struct::decode(encoded.as_slice()).ok().map(|metadata| Self::of(&metadata))
    }

    /// Of an endpoint's `workload;namespace;canonical name;canonical revision;cluster`.
    pub(super) fn of_endpoint(text: &str) -> Self {
        let mut parts = text.split(';').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self {
            workload: next(),
            namespace: next(),
            canonical_name: next(),
            canonical_revision: next(),
            cluster: next(),
            ..Self::default()
        }
    }
}

fn text(fields: &Struct, name: &str) -> String {
    match fields.fields.get(name).and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}
