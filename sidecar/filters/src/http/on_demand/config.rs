//! `on_demand.v3.OnDemand` and `PerRouteConfig`.

use std::sync::Arc;
use std::time::Duration;

use weft_filter_api::{OnDemandSettings, RouteFilterConfig};
use weft_xds_proto::pb::envoy::config::core::v3::{
    ConfigSource, api_config_source::ApiType, config_source::ConfigSourceSpecifier,
};
use weft_xds_proto::pb::envoy::extensions::filters::http::on_demand::v3::{
    OnDemand, OnDemandCds, PerRouteConfig,
};
use weft_xds_proto::pb::google::protobuf::Any;

use crate::config::{FieldError, Within, decode, opt_duration};
use crate::{FilterCx, HttpFilterKind};

/// `timeout` when it is not set.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn compile(config: &Any, _: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: OnDemand = decode(config)?;
    settings(config.odcds.as_ref()).map(HttpFilterKind::OnDemand)
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: PerRouteConfig = decode(config)?;
    Ok(Arc::new(settings(config.odcds.as_ref())?))
}

fn settings(config: Option<&OnDemandCds>) -> Result<OnDemandSettings, FieldError> {
    let Some(config) = config else { return Ok(OnDemandSettings::default()) };
    clusters(config).map(|clusters| OnDemandSettings { clusters: Some(clusters) }).within("odcds")
}

fn clusters(config: &OnDemandCds) -> Result<Duration, FieldError> {
    if !config.resources_locator.is_empty() {
        return Err(FieldError::unsupported("resources_locator"));
    }
    over_ads(config.source.as_ref()).within("source")?;
    let timeout = opt_duration(config.timeout.as_ref(), "timeout")?;
    Ok(timeout.filter(|time| !time.is_zero()).unwrap_or(TIMEOUT))
}

fn over_ads(source: Option<&ConfigSource>) -> Result<(), FieldError> {
    use ConfigSourceSpecifier as Spec;
    match source.and_then(|source| source.config_source_specifier.as_ref()) {
        Some(Spec::Ads(_) | Spec::Self_(_)) => Ok(()),
        Some(Spec::ApiConfigSource(api))
            if api.api_type == i32::from(ApiType::AggregatedDeltaGrpc) =>
        {
            Ok(())
        }
        _ => {
            Err(FieldError::new("clusters are fetched over the aggregated stream: give `ads: {}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_xds_proto::pack;
    use weft_xds_proto::pb::envoy::config::core::v3::AggregatedConfigSource;

    use super::*;
    use crate::testing::Fixture;

    fn ads() -> Option<ConfigSource> {
        Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::Ads(
                AggregatedConfigSource::default(),
            )),
            ..Default::default()
        })
    }

    fn compiled(odcds: Option<OnDemandCds>) -> Result<OnDemandSettings, FieldError> {
        let config = OnDemand { odcds };
        match compile(&pack(&config), &mut Fixture::default().cx())? {
            HttpFilterKind::OnDemand(settings) => Ok(settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clusters_are_fetched_only_with_odcds_and_waited_for_five_seconds() {
        assert_eq!(compiled(None), Ok(OnDemandSettings { clusters: None }));
        let odcds = OnDemandCds { source: ads(), ..Default::default() };
        assert_eq!(compiled(Some(odcds)), Ok(OnDemandSettings { clusters: Some(TIMEOUT) }));
    }

    #[test]
    fn another_source_than_the_aggregated_stream_is_refused() {
        let error = compiled(Some(OnDemandCds::default())).expect_err("no source");
        assert_eq!(error.field, "odcds.source");
        let locator = "xdstp://x/".to_owned();
        let odcds = OnDemandCds { source: ads(), resources_locator: locator, timeout: None };
        let error = compiled(Some(odcds)).expect_err("a locator");
        assert_eq!(error.field, "odcds.resources_locator");
    }
}
