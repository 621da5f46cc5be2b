//! `router.v3.Router`.

use weft_xds_proto::pb::envoy::config::core::v3::Node;
use weft_xds_proto::pb::envoy::extensions::filters::http::router::v3::Router;
use weft_xds_proto::pb::google::protobuf::Any;

use crate::HttpFilterKind;
use crate::config::{FieldError, decode};

/// Accepts a router; filters of its own in front of the upstream are not supported.
pub(crate) fn compile(config: &Any, _: &Node) -> Result<HttpFilterKind, FieldError> {
    let router: Router = decode(config)?;
    if !router.upstream_http_filters.is_empty() {
        return Err(FieldError::unsupported("upstream_http_filters"));
    }
    Ok(HttpFilterKind::Router)
}
