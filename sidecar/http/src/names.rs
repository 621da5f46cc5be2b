//! Names of headers that the connection manager reads and writes.

use http::HeaderName;

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    KEEP_ALIVE = "keep-alive";
    PROXY_CONNECTION = "proxy-connection";
    HTTP2_SETTINGS = "http2-settings";
    X_FORWARDED_FOR = "x-forwarded-for";
    X_FORWARDED_HOST = "x-forwarded-host";
    X_FORWARDED_PORT = "x-forwarded-port";
    X_FORWARDED_PROTO = "x-forwarded-proto";
    X_FORWARDED_CLIENT_CERT = "x-forwarded-client-cert";
    X_REQUEST_ID = "x-request-id";
    GRPC_TIMEOUT = "grpc-timeout";
    GRPC_STATUS = "grpc-status";
    GRPC_MESSAGE = "grpc-message";
    ENVOY_ATTEMPT_COUNT = "x-envoy-attempt-count";
    ENVOY_EXPECTED_TIMEOUT = "x-envoy-expected-rq-timeout-ms";
    ENVOY_INTERNAL = "x-envoy-internal";
    ENVOY_EXTERNAL_ADDRESS = "x-envoy-external-address";
    ENVOY_ORIGINAL_HOST = "x-envoy-original-host";
    ENVOY_ORIGINAL_PATH = "x-envoy-original-path";
    ENVOY_ORIGINAL_URL = "x-envoy-original-url";
    ENVOY_OVERLOADED = "x-envoy-overloaded";
    ENVOY_RATE_LIMITED = "x-envoy-ratelimited";
    ENVOY_RETRY_ON = "x-envoy-retry-on";
    ENVOY_RETRY_GRPC_ON = "x-envoy-retry-grpc-on";
    ENVOY_MAX_RETRIES = "x-envoy-max-retries";
    ENVOY_RETRIABLE_CODES = "x-envoy-retriable-status-codes";
    ENVOY_RETRIABLE_HEADERS = "x-envoy-retriable-header-names";
    ENVOY_TIMEOUT = "x-envoy-upstream-rq-timeout-ms";
    ENVOY_PER_TRY_TIMEOUT = "x-envoy-upstream-rq-per-try-timeout-ms";
    ENVOY_SERVICE_TIME = "x-envoy-upstream-service-time";
}

pub(crate) const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");
pub(crate) const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
pub(crate) const DECORATOR_OPERATION: HeaderName =
    HeaderName::from_static("x-envoy-decorator-operation");

/// Headers by which only internal requests may steer the proxy: removed from all others.
pub(crate) const INTERNAL: [HeaderName; 14] = [
    ENVOY_INTERNAL,
    ENVOY_RETRY_ON,
    ENVOY_RETRY_GRPC_ON,
    ENVOY_MAX_RETRIES,
    ENVOY_RETRIABLE_CODES,
    ENVOY_RETRIABLE_HEADERS,
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    ENVOY_TIMEOUT,
    ENVOY_PER_TRY_TIMEOUT,
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    ENVOY_EXPECTED_TIMEOUT,
    FORCE_TRACE,
    HeaderName::from_static("x-envoy-ip-tags"),
    ENVOY_ORIGINAL_URL,
];

/// Headers that the edge removes besides.
pub(crate) const EDGE: [HeaderName; 5] = [
    DECORATOR_OPERATION,
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    ENVOY_ORIGINAL_HOST,
    ENVOY_ORIGINAL_PATH,
];
