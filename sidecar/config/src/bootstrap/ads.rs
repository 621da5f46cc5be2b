//! The aggregated stream, and what else clusters and listeners come from.

use std::path::PathBuf;

use weft_filters::config::{FieldError, Within};
use weft_xds_proto::pb::envoy::config::core::v3::{
    ApiConfigSource, ConfigSource, api_config_source::ApiType, grpc_service::TargetSpecifier,
};

use crate::compile::{Source, fetch};

/// Which variant of the protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdsVariant {
    /// `DELTA_GRPC`: what changed.
    Delta,
    /// `GRPC`: the state of the world.
    Sotw,
}

/// `dynamic_resources.ads_config`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdsSettings {
    /// `api_type`
    pub variant: AdsVariant,
    /// `grpc_services[0].envoy_grpc.cluster_name`: one of the static clusters.
    pub cluster: String,
    /// `grpc_services[0].envoy_grpc.authority`
    pub authority: Option<String>,
    /// `grpc_services[0].initial_metadata`: sent with each stream.
    pub metadata: Vec<(String, String)>,
    /// `set_node_on_first_message_only`
    pub node_on_first_message_only: bool,
}

pub(super) fn ads(config: &ApiConfigSource) -> Result<AdsSettings, FieldError> {
    let variant = match ApiType::try_from(config.api_type) {
        Ok(ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc) => AdsVariant::Delta,
        Ok(ApiType::Grpc | ApiType::AggregatedGrpc) => AdsVariant::Sotw,
        _ => return Err(FieldError::at("api_type", "has to be DELTA_GRPC or GRPC")),
    };
    let [service] = config.grpc_services.as_slice() else {
        let reason = format!("one service is wanted, not {}", config.grpc_services.len());
        return Err(FieldError::at("grpc_services", reason));
    };
    let grpc = match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(grpc)) if grpc.cluster_name.is_empty() => {
            Err(FieldError::missing("envoy_grpc.cluster_name"))
        }
        Some(TargetSpecifier::EnvoyGrpc(grpc)) => Ok(grpc),
        Some(TargetSpecifier::GoogleGrpc(_)) => {
            Err(FieldError::at("google_grpc", "is not supported; give envoy_grpc"))
        }
        None => Err(FieldError::missing("envoy_grpc")),
    };
    let grpc = grpc.within("grpc_services[0]")?;
    let metadata = service.initial_metadata.iter();
    Ok(AdsSettings {
        variant,
        cluster: grpc.cluster_name.clone(),
        authority: Some(grpc.authority.clone()).filter(|authority| !authority.is_empty()),
        metadata: metadata.map(|header| (header.key.clone(), header.value.clone())).collect(),
        node_on_first_message_only: config.set_node_on_first_message_only,
    })
}

/// Where all clusters or all listeners come from.
pub(super) enum Discovered {
    /// The aggregated stream.
    Stream,
    /// This file.
    File(PathBuf),
}

/// Reads a `cds_config` or `lds_config`.
pub(super) fn discovered(
    config: &ConfigSource,
    ads: Option<&AdsSettings>,
) -> Result<Discovered, FieldError> {
    match (fetch(Some(config))?.source, ads) {
        (Source::Ads, Some(_)) => Ok(Discovered::Stream),
        (Source::Ads, None) => {
            let reason = "wants the aggregated stream, but dynamic_resources.ads_config is missing";
            Err(FieldError::new(reason))
        }
        (Source::File(path), _) => Ok(Discovered::File(path)),
        (Source::Grpc(_), _) => Err(FieldError::at(
            "api_config_source",
            "Weft keeps one aggregated stream; give `ads: {}` here and ads_config beside it",
        )),
    }
}
