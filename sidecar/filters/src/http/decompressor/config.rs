//! `http.decompressor.v3.Decompressor`.

use std::sync::Arc;

use weft_xds_proto::pb::envoy::extensions::filters::http::decompressor::v3::{
    Decompressor as PbFilter, decompressor::CommonDirectionConfig,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Decompressor, Direction};
use crate::coding::config::{decompressor, is_on};
use crate::config::{FieldError, decode};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    let (coding, ratio) = decompressor(config.decompressor_library.as_ref())?;
    let library = config.decompressor_library.as_ref().map_or("", |library| &library.name);
    let scope = cx.scope();
    let direction = |common: Option<&CommonDirectionConfig>, name: &str| {
        let prefix = format!("decompressor.{library}.{}.{name}", coding.name());
        let counter = |name: &str| scope.counter(&format!("{prefix}.{name}"));
        Direction {
            enabled: is_on(common.and_then(|common| common.enabled.as_ref())),
            always: common.is_some_and(|common| common.ignore_no_transform_header),
            decompressed: counter("decompressed"),
            not_decompressed: counter("not_decompressed"),
            bytes: [counter("total_compressed_bytes"), counter("total_uncompressed_bytes")],
        }
    };
    let requests = config.request_direction_config.as_ref();
    let responses = config.response_direction_config.as_ref();
    let advertises = requests.and_then(|requests| requests.advertise_accept_encoding);
    Ok(HttpFilterKind::Filter(Arc::new(Decompressor {
        coding,
        ratio,
        requests: direction(requests.and_then(|one| one.common_config.as_ref()), "request"),
        responses: direction(responses.and_then(|one| one.common_config.as_ref()), "response"),
        advertises: advertises.is_none_or(|flag| flag.value),
    })))
}
