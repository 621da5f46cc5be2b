//! The statistics of one cluster, listener, connection manager or TCP proxy, under Envoy's names.

use crate::codes::ResponseCodes;
use crate::stats::{Counter, Gauge, Histogram, Registry, Scope};

macro_rules! group {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ident = $stat:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: group!(@type $kind),)*
        }

        impl $name {
            /// Registers the statistics in `scope`.
            #[must_use]
            pub fn in_scope(scope: &Scope) -> Self {
                Self { $($field: scope.$kind($stat),)* }
            }
        }
    };
    (@type counter) => { Counter };
    (@type gauge) => { Gauge };
    (@type histogram) => { Histogram };
    (@type codes) => { ResponseCodes };
}

group! {
    /// `cluster.<name>.*`
    ClusterStats {
        /// Connections made.
        cx_total: counter = "upstream_cx_total",
        /// Connections open.
        cx_active: gauge = "upstream_cx_active",
        /// Connections that could not be made.
        cx_connect_fail: counter = "upstream_cx_connect_fail",
        /// Connections that were not made in time.
        cx_connect_timeout: counter = "upstream_cx_connect_timeout",
        /// Times that the connection limit was met.
        cx_overflow: counter = "upstream_cx_overflow",
        /// Responses that broke the protocol before their head was there.
        cx_protocol_error: counter = "upstream_cx_protocol_error",
        /// Bytes received from the upstream.
        cx_rx_bytes: counter = "upstream_cx_rx_bytes_total",
        /// Bytes sent to the upstream.
        cx_tx_bytes: counter = "upstream_cx_tx_bytes_total",
        /// HTTP/1.1 connections made.
        cx_http1_total: counter = "upstream_cx_http1_total",
        /// HTTP/2 connections made.
        cx_http2_total: counter = "upstream_cx_http2_total",
        /// TLS handshakes that failed.
        ssl_connection_error: counter = "ssl.connection_error",
        /// TLS handshakes done.
        ssl_handshake: counter = "ssl.handshake",
        /// Requests sent.
        rq_total: counter = "upstream_rq_total",
        /// Requests in flight.
        rq_active: gauge = "upstream_rq_active",
        /// Requests waiting for a connection.
        rq_pending_active: gauge = "upstream_rq_pending_active",
        /// Times that the pending-request limit or request limit was met.
        rq_pending_overflow: counter = "upstream_rq_pending_overflow",
        /// Requests that timed out.
        rq_timeout: counter = "upstream_rq_timeout",
        /// Tries that timed out.
        rq_per_try_timeout: counter = "upstream_rq_per_try_timeout",
        /// Retries.
        rq_retry: counter = "upstream_rq_retry",
        /// Retries that succeeded.
        rq_retry_success: counter = "upstream_rq_retry_success",
        /// Retries refused by the retry breaker.
        rq_retry_overflow: counter = "upstream_rq_retry_overflow",
        /// Retries refused since the policy's number was used up.
        rq_retry_limit_exceeded: counter = "upstream_rq_retry_limit_exceeded",
        /// Requests reset by the upstream.
        rq_rx_reset: counter = "upstream_rq_rx_reset",
        /// Responses 1xx to 5xx.
        rq_1xx: counter = "upstream_rq_1xx",
        /// Responses 2xx.
        rq_2xx: counter = "upstream_rq_2xx",
        /// Responses 3xx.
        rq_3xx: counter = "upstream_rq_3xx",
        /// Responses 4xx.
        rq_4xx: counter = "upstream_rq_4xx",
        /// Responses 5xx.
        rq_5xx: counter = "upstream_rq_5xx",
        /// Responses by their code.
        rq_codes: codes = "upstream_rq_",
        /// Completed requests.
        rq_completed: counter = "upstream_rq_completed",
        /// Time of a request, milliseconds.
        rq_time: histogram = "upstream_rq_time",
        /// Requests for which no healthy host was found.
        cx_none_healthy: counter = "upstream_cx_none_healthy",
        /// Hosts known.
        membership_total: gauge = "membership_total",
        /// Hosts healthy.
        membership_healthy: gauge = "membership_healthy",
        /// Hosts degraded.
        membership_degraded: gauge = "membership_degraded",
        /// Changes of the set of hosts.
        membership_change: counter = "membership_change",
        /// Updates applied.
        update_success: counter = "update_success",
        /// Updates refused.
        update_rejected: counter = "update_rejected",
    }
}

impl ClusterStats {
    /// Registers `cluster.<name>.*`.
    #[must_use]
    pub fn new(registry: &Registry, name: &str) -> Self {
        Self::in_scope(&Self::scope(registry, name))
    }

    /// The scope of a cluster's statistics.
    #[must_use]
    pub fn scope(registry: &Registry, name: &str) -> Scope {
        registry.scope("cluster", Some(("envoy_cluster_name", name)))
    }

    /// Counts a response by its status and the class of it.
    pub fn count_status(&self, status: u16) {
        self.rq_completed.inc();
        self.rq_codes.count(status);
        match status / 100 {
            1 => self.rq_1xx.inc(),
            2 => self.rq_2xx.inc(),
            3 => self.rq_3xx.inc(),
            4 => self.rq_4xx.inc(),
            5 => self.rq_5xx.inc(),
            _ => {}
        }
    }
}

group! {
    /// `listener.<address>.*`
    ListenerStats {
        /// Connections accepted.
        cx_total: counter = "downstream_cx_total",
        /// Connections open.
        cx_active: gauge = "downstream_cx_active",
        /// Connections closed.
        cx_destroy: counter = "downstream_cx_destroy",
        /// Listener filters that timed out.
        pre_cx_timeout: counter = "downstream_pre_cx_timeout",
        /// Connections for which no filter chain matched.
        no_filter_chain_match: counter = "no_filter_chain_match",
        /// TLS handshakes done.
        ssl_handshake: counter = "ssl.handshake",
        /// TLS handshakes that failed.
        ssl_connection_error: counter = "ssl.connection_error",
        /// TLS peers whose certificate was refused.
        ssl_fail_verify_error: counter = "ssl.fail_verify_error",
        /// TLS peers that gave no certificate where one is required.
        ssl_fail_verify_no_cert: counter = "ssl.fail_verify_no_cert",
    }
}

impl ListenerStats {
    /// Registers `listener.<address>.*`; `address` as Envoy writes it, e.g. `0.0.0.0_15006`.
    #[must_use]
    pub fn new(registry: &Registry, address: &str) -> Self {
        Self::in_scope(&registry.scope("listener", Some(("envoy_listener_address", address))))
    }
}

group! {
    /// `http.<stat_prefix>.*`
    HttpStats {
        /// Connections.
        cx_total: counter = "downstream_cx_total",
        /// Connections open.
        cx_active: gauge = "downstream_cx_active",
        /// HTTP/1 connections.
        cx_http1_total: counter = "downstream_cx_http1_total",
        /// HTTP/2 connections.
        cx_http2_total: counter = "downstream_cx_http2_total",
        /// Upgraded connections.
        cx_upgrades_total: counter = "downstream_cx_upgrades_total",
        /// Connections that broke the protocol.
        cx_protocol_error: counter = "downstream_cx_protocol_error",
        /// Requests.
        rq_total: counter = "downstream_rq_total",
        /// Requests in flight.
        rq_active: gauge = "downstream_rq_active",
        /// HTTP/1 requests.
        rq_http1_total: counter = "downstream_rq_http1_total",
        /// HTTP/2 requests.
        rq_http2_total: counter = "downstream_rq_http2_total",
        /// Responses 1xx.
        rq_1xx: counter = "downstream_rq_1xx",
        /// Responses 2xx.
        rq_2xx: counter = "downstream_rq_2xx",
        /// Responses 3xx.
        rq_3xx: counter = "downstream_rq_3xx",
        /// Responses 4xx.
        rq_4xx: counter = "downstream_rq_4xx",
        /// Responses 5xx.
        rq_5xx: counter = "downstream_rq_5xx",
        /// Requests completed.
        rq_completed: counter = "downstream_rq_completed",
        /// Requests that found no route.
        no_route: counter = "no_route",
        /// Requests whose route names an unknown cluster.
        no_cluster: counter = "no_cluster",
        /// Streams reset by the client.
        rq_rx_reset: counter = "downstream_rq_rx_reset",
        /// Streams ended for idleness.
        rq_idle_timeout: counter = "downstream_rq_idle_timeout",
        /// Requests that were not received in time.
        rq_timeout: counter = "downstream_rq_timeout",
        /// Requests whose head did not arrive in time.
        rq_header_timeout: counter = "downstream_rq_header_timeout",
        /// Requests that lasted longer than they may.
        rq_max_duration: counter = "downstream_rq_max_duration_reached",
        /// Time of a request, milliseconds.
        rq_time: histogram = "downstream_rq_time",
    }
}

impl HttpStats {
    /// Registers `http.<stat_prefix>.*`.
    #[must_use]
    pub fn new(registry: &Registry, stat_prefix: &str) -> Self {
        Self::in_scope(
            &registry.scope("http", Some(("envoy_http_conn_manager_prefix", stat_prefix))),
        )
    }

    /// Counts a response by the class of its status.
    pub fn count_status(&self, status: u16) {
        self.rq_completed.inc();
        match status / 100 {
            1 => self.rq_1xx.inc(),
            2 => self.rq_2xx.inc(),
            3 => self.rq_3xx.inc(),
            4 => self.rq_4xx.inc(),
            5 => self.rq_5xx.inc(),
            _ => {}
        }
    }
}

group! {
    /// `tcp.<stat_prefix>.*`
    TcpStats {
        /// Connections.
        cx_total: counter = "downstream_cx_total",
        /// Connections open.
        cx_active: gauge = "downstream_cx_active",
        /// Connections that found no route.
        cx_no_route: counter = "downstream_cx_no_route",
        /// Bytes from the client.
        cx_rx_bytes: counter = "downstream_cx_rx_bytes_total",
        /// Bytes to the client.
        cx_tx_bytes: counter = "downstream_cx_tx_bytes_total",
        /// Connections closed for idleness.
        idle_timeout: counter = "idle_timeout",
    }
}

impl TcpStats {
    /// Registers `tcp.<stat_prefix>.*`.
    #[must_use]
    pub fn new(registry: &Registry, stat_prefix: &str) -> Self {
        Self::in_scope(&registry.scope("tcp", Some(("envoy_tcp_prefix", stat_prefix))))
    }
}
