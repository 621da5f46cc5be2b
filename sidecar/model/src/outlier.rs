//! When a host is taken out of use for what requests tell of it.

use std::time::Duration;

/// `Cluster.outlier_detection`, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// `interval` (default 10 s)
    pub interval: Duration,
    /// `base_ejection_time` (default 30 s)
    pub base_time: Duration,
    /// `max_ejection_time` (default 300 s, at least the base)
    pub max_time: Duration,
    /// `max_ejection_time_jitter`
    pub max_jitter: Duration,
    /// `max_ejection_percent` (default 10)
    pub max_percent: u32,
    /// `always_eject_one_host`
    pub always_one: bool,
    /// `split_external_local_origin_errors`
    pub split: bool,
    /// `successful_active_health_check_uneject_host` (default true)
    pub uneject_when_checked: bool,
    /// `consecutive_5xx` (default 5)
    pub consecutive_5xx: u32,
    /// `consecutive_gateway_failure` (default 5)
    pub consecutive_gateway: u32,
    /// `consecutive_local_origin_failure` (default 5)
    pub consecutive_local: u32,
    /// `success_rate_minimum_hosts` (default 5)
    pub rate_hosts: usize,
    /// `success_rate_request_volume` (default 100)
    pub rate_volume: u64,
    /// `success_rate_stdev_factor` (default 1900), as a factor.
    pub rate_deviations: f64,
    /// `failure_percentage_threshold` (default 85)
    pub percentage: f64,
    /// `failure_percentage_minimum_hosts` (default 5)
    pub percentage_hosts: usize,
    /// `failure_percentage_request_volume` (default 50)
    pub percentage_volume: u64,
    /// The fields `enforcing_*`.
    pub enforcing: Enforcing,
}

/// Why a host is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionCause {
    /// Too many 5xx in a row.
    Consecutive5xx,
    /// Too many 502, 503 or 504 in a row.
    ConsecutiveGateway,
    /// Too many failures on the way in a row.
    ConsecutiveLocal,
    /// A success rate far below that of the others.
    SuccessRate,
    /// The same of the way.
    LocalSuccessRate,
    /// Too many failures.
    FailurePercentage,
    /// Too many failures on the way.
    LocalFailurePercentage,
}

impl EjectionCause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Consecutive5xx,
        Self::ConsecutiveGateway,
        Self::ConsecutiveLocal,
        Self::SuccessRate,
        Self::LocalSuccessRate,
        Self::FailurePercentage,
        Self::LocalFailurePercentage,
    ];

    /// A number below seven.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Envoy's name in statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGateway => "consecutive_gateway_failure",
            Self::ConsecutiveLocal => "consecutive_local_origin_failure",
            Self::SuccessRate => "success_rate",
            Self::LocalSuccessRate => "local_origin_success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::LocalFailurePercentage => "local_origin_failure_percentage",
        }
    }
}

/// How many of a hundred detections are enforced, by [`EjectionCause::index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcing(pub [u32; 7]);

impl Enforcing {
    /// The percentage for a cause.
    #[must_use]
    pub fn percent(&self, cause: EjectionCause) -> u32 {
        self.0[cause.index()]
    }
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
            max_jitter: Duration::ZERO,
            max_percent: 10,
            always_one: false,
            split: false,
            uneject_when_checked: true,
            consecutive_5xx: 5,
            consecutive_gateway: 5,
            consecutive_local: 5,
            rate_hosts: 5,
            rate_volume: 100,
            rate_deviations: 1.9,
            percentage: 85.0,
            percentage_hosts: 5,
            percentage_volume: 50,
            enforcing: Enforcing([100, 0, 100, 100, 100, 0, 0]),
        }
    }
}
