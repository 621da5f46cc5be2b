//! Why a response is what it is: Envoy's response flags.

use std::fmt;

/// One response flag, as `%RESPONSE_FLAGS%` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ResponseFlag {
    /// `LH`: the local health check failed.
    FailedLocalHealthCheck,
    /// `UH`: no healthy upstream host.
    NoHealthyUpstream,
    /// `UT`: the upstream request timed out.
    UpstreamRequestTimeout,
    /// `LR`: the connection was reset locally.
    LocalReset,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
    /// `UF`: the upstream connection failed.
    UpstreamConnectionFailure,
    /// `UC`: the upstream connection ended in the middle of an exchange.
    UpstreamConnectionTermination,
    /// `UO`: a circuit breaker is open.
    UpstreamOverflow,
    /// `NR`: no route, or no filter chain.
    NoRouteFound,
    /// `DI`: delayed by fault injection.
    DelayInjected,
    /// `FI`: aborted by fault injection.
    FaultInjected,
    /// `RL`: rate limited.
    RateLimited,
    /// `UAEX`: denied by an external authorization service.
    UnauthorizedExternalService,
    /// `RLSE`: the rate limit service failed.
    RateLimitServiceError,
    /// `DC`: the downstream connection ended early.
    DownstreamConnectionTermination,
    /// `URX`: the retry or connect attempt limit was reached.
    UpstreamRetryLimitExceeded,
    /// `SI`: the stream was idle for too long.
    StreamIdleTimeout,
    /// `IH`: a header had an invalid value.
    InvalidEnvoyRequestHeaders,
    /// `DPE`: the downstream broke the protocol.
    DownstreamProtocolError,
    /// `UMSDR`: the upstream's stream lasted too long.
    UpstreamMaxStreamDurationReached,
    /// `NFCF`: a filter configuration is missing.
    NoFilterConfigFound,
    /// `DT`: the connection lasted too long.
    DurationTimeout,
    /// `UPE`: the upstream broke the protocol.
    UpstreamProtocolError,
    /// `NC`: the route's cluster does not exist.
    NoClusterFound,
    /// `OM`: the overload manager acted.
    OverloadManager,
    /// `DF`: DNS resolution failed.
    DnsResolutionFailed,
    /// `DO`: dropped for overload of the upstream.
    DropOverLoad,
    /// `DR`: the downstream reset the stream.
    DownstreamRemoteReset,
}

impl ResponseFlag {
    /// Every flag, in the order in which Envoy prints them.
    pub const ALL: [Self; 28] = [
        Self::FailedLocalHealthCheck,
        Self::NoHealthyUpstream,
        Self::UpstreamRequestTimeout,
        Self::LocalReset,
        Self::UpstreamRemoteReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRouteFound,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::RateLimited,
        Self::UnauthorizedExternalService,
        Self::RateLimitServiceError,
        Self::DownstreamConnectionTermination,
        Self::UpstreamRetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::InvalidEnvoyRequestHeaders,
        Self::DownstreamProtocolError,
        Self::UpstreamMaxStreamDurationReached,
        Self::NoFilterConfigFound,
        Self::DurationTimeout,
        Self::UpstreamProtocolError,
        Self::NoClusterFound,
        Self::OverloadManager,
        Self::DnsResolutionFailed,
        Self::DropOverLoad,
        Self::DownstreamRemoteReset,
    ];

    /// The short form, e.g. `UH`.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::FailedLocalHealthCheck => "LH",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamRequestTimeout => "UT",
            Self::LocalReset => "LR",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamOverflow => "UO",
            Self::NoRouteFound => "NR",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::RateLimited => "RL",
            Self::UnauthorizedExternalService => "UAEX",
            Self::RateLimitServiceError => "RLSE",
            Self::DownstreamConnectionTermination => "DC",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::StreamIdleTimeout => "SI",
            Self::InvalidEnvoyRequestHeaders => "IH",
            Self::DownstreamProtocolError => "DPE",
            Self::UpstreamMaxStreamDurationReached => "UMSDR",
            Self::NoFilterConfigFound => "NFCF",
            Self::DurationTimeout => "DT",
            Self::UpstreamProtocolError => "UPE",
            Self::NoClusterFound => "NC",
            Self::OverloadManager => "OM",
            Self::DnsResolutionFailed => "DF",
            Self::DropOverLoad => "DO",
            Self::DownstreamRemoteReset => "DR",
        }
    }
}

/// A set of response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

impl ResponseFlags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Adds a flag.
    pub fn set(&mut self, flag: ResponseFlag) {
        self.0 |= 1 << flag as u8;
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn has(self, flag: ResponseFlag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// The set as bits, the first flag of [`ResponseFlag::ALL`] lowest.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether no flag is set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Comma-separated short forms; `-` when there is none.
impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut first = true;
        for flag in ResponseFlag::ALL.into_iter().filter(|flag| self.has(*flag)) {
            if !first {
                f.write_str(",")?;
            }
            first = false;
            f.write_str(flag.short())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_in_their_short_form() {
        let mut flags = ResponseFlags::NONE;
        assert_eq!(flags.to_string(), "-");
        flags.set(ResponseFlag::UpstreamRetryLimitExceeded);
        flags.set(ResponseFlag::UpstreamConnectionFailure);
        assert_eq!(flags.to_string(), "UF,URX");
    }
}
