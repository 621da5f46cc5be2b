//! `network.local_ratelimit.v3.LocalRateLimit`.

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit as PbFilter;
use weft_xds_proto::pb::google::protobuf::Any;

use super::LocalRateLimit;
use crate::config::{FieldError, Within, decode, token_bucket};
use crate::{FilterCx, NetworkFilterKind};

pub(crate) fn compile(
    config: &Any,
    cx: &mut FilterCx<'_>,
) -> Result<NetworkFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    if config.stat_prefix.is_empty() {
        return Err(FieldError::missing("stat_prefix"));
    }
    if !config.share_key.is_empty() {
        return Err(FieldError::unsupported("share_key"));
    }
    let bucket = config.token_bucket.as_ref().ok_or_else(|| FieldError::missing("token_bucket"))?;
    let enabled = config.runtime_enabled.as_ref().and_then(|flag| flag.default_value.as_ref());
    let scope = cx.registry.scope("local_rate_limit", None);
    Ok(NetworkFilterKind::Filter(Arc::new(LocalRateLimit {
        bucket: token_bucket(bucket).within("token_bucket")?,
        enabled: enabled.is_none_or(|flag| flag.value),
        rate_limited: scope.counter(&format!("{}.rate_limited", config.stat_prefix)),
    })))
}
