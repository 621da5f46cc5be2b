//! Timeouts of a route or upstream.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// APISIX's `timeout`: all three parts are required, in seconds above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Timeout {
    /// The most time to establish a connection to the upstream.
    #[serde(deserialize_with = "positive_seconds")]
    pub connect: Duration,
    /// The most time between two writes to the upstream.
    #[serde(deserialize_with = "positive_seconds")]
    pub send: Duration,
    /// The most time between two reads from the upstream.
    #[serde(deserialize_with = "positive_seconds")]
    pub read: Duration,
}

impl Default for Timeout {
    /// What APISIX does without any `timeout`: 60 seconds each.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { connect: minute, send: minute, read: minute }
    }
}

/// Seconds, also fractions, from zero on.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| de::Error::custom(format!("{seconds} is no number of seconds from 0 on")))
}

fn positive_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = seconds(deserializer)?;
    if duration.is_zero() {
        return Err(de::Error::custom("expected more than 0 seconds"));
    }
    Ok(duration)
}
