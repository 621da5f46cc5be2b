//! `network.sni_cluster.v3.SniCluster`.

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::network::sni_cluster::v3::SniCluster as PbFilter;
use weft_xds_proto::pb::google::protobuf::Any;

use super::SniCluster;
use crate::config::{FieldError, decode};
use crate::{FilterCx, NetworkFilterKind};

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<NetworkFilterKind, FieldError> {
    let PbFilter {} = decode(config)?;
    Ok(NetworkFilterKind::Filter(Arc::new(SniCluster)))
}
