//! Which records a log takes (`accesslog.v3.AccessLogFilter`).

use super::LogRecord;
use crate::ResponseFlag;

/// `ComparisonFilter.Op`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `EQ`
    Equal,
    /// `GE`
    AtLeast,
    /// `LE`
    AtMost,
    /// `NE`
    NotEqual,
}

impl Comparison {
    fn holds(self, value: u64, wanted: u64) -> bool {
        match self {
            Self::Equal => value == wanted,
            Self::AtLeast => value >= wanted,
            Self::AtMost => value <= wanted,
            Self::NotEqual => value != wanted,
        }
    }
}

/// A condition on a record.
#[derive(Clone, Debug)]
pub enum LogFilter {
    /// `status_code_filter`
    Status(Comparison, u64),
    /// `duration_filter`, milliseconds
    Duration(Comparison, u64),
    /// `not_health_check_filter`; every request counts as one that is not, since Weft has no health check filter.
    NotHealthCheck,
    /// `response_flag_filter`: any of these; empty: any flag at all.
    Flags(Vec<ResponseFlag>),
    /// `and_filter`
    All(Vec<Self>),
    /// `or_filter`
    Any(Vec<Self>),
}

impl LogFilter {
    /// Whether the record is to be logged.
    #[must_use]
    pub fn admits(&self, record: &LogRecord<'_>) -> bool {
        match self {
            Self::Status(comparison, wanted) => comparison.holds(record.status.into(), *wanted),
            Self::Duration(comparison, wanted) => comparison.holds(
                record.duration.unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX),
                *wanted,
            ),
            Self::NotHealthCheck => true,
            Self::Flags(flags) if flags.is_empty() => !record.flags.is_empty(),
            Self::Flags(flags) => flags.iter().any(|flag| record.flags.has(*flag)),
            Self::All(filters) => filters.iter().all(|filter| filter.admits(record)),
            Self::Any(filters) => filters.iter().any(|filter| filter.admits(record)),
        }
    }
}
