//! `istio.stats`: counts requests in Istio's standard metrics.

use http::request::Parts as RequestHead;
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_telemetry::LogRecord;

use crate::http::peer_metadata::{ClientMetadata, UpstreamMetadata};
use crate::istio::{Peers, Stats};

pub(crate) mod config;

/// The filter.
#[derive(Debug)]
pub(crate) struct IstioStats(Stats);

impl HttpFilter for IstioStats {
    fn sees_requests(&self) -> bool {
        false
    }

    fn sees_ends(&self) -> bool {
        true
    }

    fn counts_messages(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        _: &'a mut StreamCx,
        _: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        Flow::Continue
    }

    fn finished(&self, cx: &StreamCx, record: &LogRecord<'_>, _: Option<&RouteFilterConfig>) {
        let client = cx.state.get::<ClientMetadata>().and_then(|told| told.0.as_ref());
        let upstream = cx.state.get::<UpstreamMetadata>();
        let peers = Peers {
            client: client.map(http::HeaderValue::as_bytes),
            upstream: upstream.map(|told| told.0.as_bytes()),
        };
        self.0.count_request(record, peers);
    }
}
