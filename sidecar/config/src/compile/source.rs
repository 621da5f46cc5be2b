//! Where a resource is fetched from, and how long its user waits for it.

use std::path::PathBuf;
use std::time::Duration;

use weft_filters::config::{FieldError, Within, limit};
use weft_xds_proto::pb::envoy::config::core::v3::{
    ConfigSource, api_config_source::ApiType, config_source::ConfigSourceSpecifier,
    grpc_service::TargetSpecifier,
};

/// How long a resource is waited for when `initial_fetch_timeout` is not set (Envoy's default).
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Where a resource comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The aggregated stream.
    Ads,
    /// A file.
    File(PathBuf),
    /// A stream of its own.
    Grpc(Server),
}

/// A server of one type of resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Server {
    /// The cluster that it is reached by.
    pub(crate) cluster: String,
    /// Whether the incremental variant is spoken.
    pub(crate) incremental: bool,
}

/// A source and the time that its resources are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// The source.
    pub(crate) source: Source,
    /// `initial_fetch_timeout`; `None`: for ever.
    pub(crate) timeout: Option<Duration>,
}

/// Reads a `ConfigSource`.
pub(crate) fn fetch(config: Option<&ConfigSource>) -> Result<Fetch, FieldError> {
    use ConfigSourceSpecifier as Spec;
    let Some(config) = config else {
        return Err(FieldError::new("is required: give `ads: {}`"));
    };
    let timeout =
        limit(config.initial_fetch_timeout.as_ref(), "initial_fetch_timeout", Some(FETCH_TIMEOUT))?;
    let source = match &config.config_source_specifier {
        Some(Spec::Ads(_) | Spec::Self_(_)) => Source::Ads,
        Some(Spec::PathConfigSource(path)) => Source::File(PathBuf::from(&path.path)),
        #[expect(deprecated, reason = "older bootstrap files still have it")]
        Some(Spec::Path(path)) => Source::File(PathBuf::from(path)),
        Some(Spec::ApiConfigSource(api)) => {
            let kind = ApiType::try_from(api.api_type);
            if matches!(kind, Ok(ApiType::AggregatedGrpc | ApiType::AggregatedDeltaGrpc)) {
                return Ok(Fetch { source: Source::Ads, timeout });
            }
            if !matches!(kind, Ok(ApiType::Grpc | ApiType::DeltaGrpc)) {
                return Err(FieldError::at("api_config_source.api_type", "only gRPC is supported"));
            }
            let target = api.grpc_services.first().and_then(|one| one.target_specifier.as_ref());
            match target {
                Some(TargetSpecifier::EnvoyGrpc(grpc)) => Source::Grpc(Server {
                    cluster: grpc.cluster_name.clone(),
                    incremental: matches!(kind, Ok(ApiType::DeltaGrpc)),
                }),
                Some(TargetSpecifier::GoogleGrpc(_)) => {
                    return Err(FieldError::unsupported("google_grpc"))
                        .within("api_config_source.grpc_services[0]");
                }
                None => return Err(FieldError::missing("api_config_source.grpc_services")),
            }
        }
        None => return Err(FieldError::new("names no source: give `ads: {}`")),
    };
    Ok(Fetch { source, timeout })
}

/// A source that has to be the aggregated stream.
pub(super) fn over_ads(config: Option<&ConfigSource>) -> Result<Option<Duration>, FieldError> {
    let fetch = fetch(config)?;
    match fetch.source {
        Source::Ads => Ok(fetch.timeout),
        Source::File(_) => Err(FieldError::unsupported("path_config_source")),
        Source::Grpc(_) => Err(FieldError::at(
            "api_config_source",
            "Weft keeps one aggregated stream; give `ads: {}`",
        )),
    }
}
