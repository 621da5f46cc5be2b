//! `router.v3.Router`.

use weft_xds_proto::pb::envoy::extensions::filters::http::router::v3::Router;
use weft_xds_proto::pb::google::protobuf::Any;

use crate::config::{FieldError, decode};
use crate::{FilterCx, HttpFilterKind};

/// Accepts a router; filters of its own in front of the upstream are not supported.
pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let router: Router = decode(config)?;
    if !router.upstream_http_filters.is_empty() {
        return Err(FieldError::unsupported("upstream_http_filters"));
    }
    Ok(HttpFilterKind::Router)
}
