//! `http.health_check.v3.HealthCheck`.

use std::sync::Arc;

use parking_lot::Mutex;
use weft_xds_proto::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck as PbFilter;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{HealthCheck, Mode};
use crate::config::{FieldError, Within, decode, header_matcher, limit};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    if !config.cluster_min_healthy_percentages.is_empty() {
        return Err(FieldError::unsupported("cluster_min_healthy_percentages"));
    }
    let through = config.pass_through_mode.as_ref();
    let through = through.ok_or_else(|| FieldError::missing("pass_through_mode"))?.value;
    let time = limit(config.cache_time.as_ref(), "cache_time", None)?;
    let mode = match (through, time) {
        (false, None) => Mode::Here,
        (true, None) => Mode::Through,
        (true, Some(time)) => Mode::Cached(time, Mutex::default()),
        (false, Some(_)) => {
            return Err(FieldError::at("cache_time", "goes only with pass_through_mode"));
        }
    };
    let each = config.headers.iter().enumerate();
    let each = each.map(|(index, one)| header_matcher(one).within_item("headers", index));
    let headers = each.collect::<Result<_, _>>()?;
    Ok(HttpFilterKind::Filter(Arc::new(HealthCheck { mode, headers })))
}
