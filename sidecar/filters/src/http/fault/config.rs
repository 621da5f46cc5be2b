//! `fault.v3.HTTPFault`.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use weft_filter_api::RouteFilterConfig;
use weft_route::Fraction;
use weft_xds_proto::pb::envoy::extensions::filters::common::fault::v3::{
    FaultDelay, fault_delay::FaultDelaySecifier,
};
use weft_xds_proto::pb::envoy::extensions::filters::http::fault::v3::{
    FaultAbort, HttpFault, fault_abort::ErrorType,
};
use weft_xds_proto::pb::envoy::r#type::v3::FractionalPercent;
use weft_xds_proto::pb::google::protobuf::Any;

use super::{Abort, Fault};
use crate::config::{FieldError, Within, decode, duration, fraction, header_matcher, status};
use crate::{FilterCx, HttpFilterKind};

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    // Empty ones run too: the routes may have a fault of their own.
    Ok(HttpFilterKind::Filter(Arc::new(fault(config)?)))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    Ok(Arc::new(fault(config)?))
}

fn fault(config: &Any) -> Result<Fault, FieldError> {
    let fault: HttpFault = decode(config)?;
    let refused = [
        (!fault.upstream_cluster.is_empty(), "upstream_cluster"),
        (!fault.downstream_nodes.is_empty(), "downstream_nodes"),
        (fault.max_active_faults.is_some(), "max_active_faults"),
        (fault.response_rate_limit.is_some(), "response_rate_limit"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let mut headers = Vec::new();
    for (index, matcher) in fault.headers.iter().enumerate() {
        headers.push(header_matcher(matcher).within_item("headers", index)?);
    }
    Ok(Fault {
        delay: fault.delay.as_ref().map(delay).transpose().within("delay")?,
        abort: fault.abort.as_ref().map(abort).transpose().within("abort")?,
        headers,
    })
}

fn delay(delay: &FaultDelay) -> Result<(Fraction, std::time::Duration), FieldError> {
    let time = match &delay.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(time)) => duration(time).within("fixed_delay")?,
        Some(FaultDelaySecifier::HeaderDelay(_)) => {
            return Err(FieldError::unsupported("header_delay"));
        }
        None => return Err(FieldError::missing("fixed_delay")),
    };
    if time.is_zero() {
        return Err(FieldError::at("fixed_delay", "has to be more than zero"));
    }
    Ok((part(delay.percentage.as_ref())?, time))
}

fn abort(abort: &FaultAbort) -> Result<(Fraction, Abort), FieldError> {
    let what = match &abort.error_type {
        Some(ErrorType::HttpStatus(code)) => {
            let body = match abort.response_body.as_str() {
                "" => Bytes::from_static(b"fault filter abort"),
                text => Bytes::copy_from_slice(text.as_bytes()),
            };
            Abort::Http(status(*code).within("http_status")?, body)
        }
        Some(ErrorType::GrpcStatus(code)) => Abort::Grpc(HeaderValue::from(*code)),
        Some(ErrorType::HeaderAbort(_)) => return Err(FieldError::unsupported("header_abort")),
        None => return Err(FieldError::missing("http_status")),
    };
    Ok((part(abort.percentage.as_ref())?, what))
}

/// An absent percentage is none of the requests, as in Envoy.
fn part(percentage: Option<&FractionalPercent>) -> Result<Fraction, FieldError> {
    match percentage {
        None => Ok(Fraction { numerator: 0, denominator: 100 }),
        Some(percentage) => fraction(percentage).within("percentage"),
    }
}
