//! Durations, fractions, names: the small messages.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use weft_route::Fraction;
use weft_xds_proto::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use weft_xds_proto::pb::envoy::r#type::v3::{
    FractionalPercent, fractional_percent::DenominatorType,
};
use weft_xds_proto::pb::google::protobuf::{Any, Duration as PbDuration};
use weft_xds_proto::{Message, Name, unpack};

use super::FieldError;

/// The longest duration that is told from "for ever": a hundred years.
const LONGEST: i64 = 100 * 365 * 24 * 3600;

/// A duration; one that is longer than a hundred years counts as a hundred years.
///
/// # Errors
/// It is negative, or its parts are out of range.
pub fn duration(value: &PbDuration) -> Result<Duration, FieldError> {
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (u64::try_from(value.seconds.min(LONGEST)), nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(FieldError::new(format!(
            "{}.{:09}s is not a duration: it has to be zero or more",
            value.seconds, value.nanos
        ))),
    }
}

/// The duration in the field `name`, where there is one.
///
/// # Errors
/// It is negative.
pub fn opt_duration(
    value: Option<&PbDuration>,
    name: &str,
) -> Result<Option<Duration>, FieldError> {
    value.map(duration).transpose().map_err(|error| error.within(name))
}

/// A time limit as Envoy writes it: absent is `default`, zero is no limit.
///
/// # Errors
/// It is negative.
pub fn limit(
    value: Option<&PbDuration>,
    name: &str,
    default: Option<Duration>,
) -> Result<Option<Duration>, FieldError> {
    Ok(match opt_duration(value, name)? {
        None => default,
        Some(Duration::ZERO) => None,
        some => some,
    })
}

/// A part of a whole.
///
/// # Errors
/// The denominator is unknown.
pub fn fraction(value: &FractionalPercent) -> Result<Fraction, FieldError> {
    let denominator = match DenominatorType::try_from(value.denominator) {
        Ok(DenominatorType::Hundred) => 100,
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        Err(_) => {
            return Err(FieldError::at(
                "denominator",
                format!("{} is not one of HUNDRED, TEN_THOUSAND, MILLION", value.denominator),
            ));
        }
    };
    Ok(Fraction { numerator: value.numerator, denominator })
}

/// The default value of a fraction that Envoy's runtime could override; Weft has no runtime.
///
/// # Errors
/// The denominator is unknown.
pub fn runtime_fraction(value: &RuntimeFractionalPercent) -> Result<Option<Fraction>, FieldError> {
    let fraction = value.default_value.as_ref().map(fraction).transpose();
    fraction.map_err(|error| error.within("default_value"))
}

/// A header's name.
///
/// # Errors
/// It is empty, a pseudo-header or contains what a name may not.
pub fn header_name(name: &str) -> Result<HeaderName, FieldError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| FieldError::new(format!("{name:?} is not a header name")))
}

/// A header's value.
///
/// # Errors
/// It contains a control character.
pub fn header_value(value: &[u8]) -> Result<HeaderValue, FieldError> {
    HeaderValue::from_bytes(value).map_err(|_| {
        let shown = String::from_utf8_lossy(value);
        FieldError::new(format!("{shown:?} is not a header value: it has a control character"))
    })
}

/// A status code.
///
/// # Errors
/// It is not between 200 and 599.
pub fn status(code: u32) -> Result<StatusCode, FieldError> {
    u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| FieldError::new(format!("{code} is not a status from 200 to 599")))
}

/// Decodes the message in an `Any`.
///
/// # Errors
/// It holds another message or is malformed.
pub fn decode<M: Message + Name + Default>(any: &Any) -> Result<M, FieldError> {
    Ok(unpack(any)?)
}
