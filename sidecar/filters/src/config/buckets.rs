//! Token buckets.

use std::time::Duration;

use weft_xds_proto::pb::envoy::r#type::v3::TokenBucket as PbBucket;

use super::{FieldError, Within, duration};
use crate::bucket::TokenBucket;

/// The shortest `fill_interval` that Envoy takes.
const SHORTEST: Duration = Duration::from_millis(50);

/// A token bucket.
///
/// # Errors
/// No fill interval or one below 50 ms, or no tokens in it.
pub(crate) fn token_bucket(config: &PbBucket) -> Result<TokenBucket, FieldError> {
    let interval = config.fill_interval.as_ref();
    let interval = interval.ok_or_else(|| FieldError::missing("fill_interval"))?;
    let interval = duration(interval).within("fill_interval")?;
    if interval < SHORTEST {
        return Err(FieldError::at("fill_interval", "has to be 50 ms or more"));
    }
    let per_fill = config.tokens_per_fill.as_ref().map_or(1, |tokens| tokens.value);
    if per_fill == 0 {
        return Err(FieldError::at("tokens_per_fill", "has to be more than zero"));
    }
    Ok(TokenBucket::new(config.max_tokens, per_fill, interval))
}
