//! The certificate agent's settings.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use weft_filters::config::{FieldError, Within};
use weft_xds_proto::TypedStruct;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;

/// The type that the settings' `TypedStruct` stands for.
const TYPE: &str = "weft.bootstrap.v1.CertificateAgent";

/// The bootstrap extension `weft.bootstrap.v1.CertificateAgent`, a `TypedStruct`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateAgentSettings {
    /// Host and port of the certificate authority.
    pub ca_address: String,
    /// The name that the authority's certificate has to have; by default, the host of `ca_address`.
    pub server_name: Option<String>,
    /// Roots that the authority's certificate is checked against, PEM.
    pub root_cert_file: PathBuf,
    /// The token that proves who the workload is.
    pub token_file: PathBuf,
    /// The trust domain, e.g. `cluster.local`.
    pub trust_domain: String,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's service account.
    pub service_account: String,
    /// Where the last good configuration and certificate are kept.
    pub state_dir: Option<PathBuf>,
    /// The life time to ask for, as a protobuf duration (`86400s`).
    #[serde(default, deserialize_with = "seconds")]
    pub ttl: Option<Duration>,
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let parse = |text: String| {
        let number = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
        let duration = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
        duration.filter(|duration| !duration.is_zero()).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not a duration like \"86400s\""))
        })
    };
    text.map(parse).transpose()
}

/// Finds the settings among the extensions; others are of no concern.
pub(super) fn agent(
    extensions: &[TypedExtensionConfig],
) -> Result<Option<CertificateAgentSettings>, FieldError> {
    let mut found = None;
    for (index, extension) in extensions.iter().enumerate() {
        let Some(any) = extension.typed_config.as_ref().filter(|any| TypedStruct::is(any)) else {
            continue;
        };
        let opened = TypedStruct::open(any).within("typed_config");
        let opened = opened.within_item("bootstrap_extensions", index)?;
        if opened.type_name() != TYPE {
            continue;
        }
        if found.is_some() {
            let error = FieldError::new("there is one certificate agent already");
            return Err(error).within_item("bootstrap_extensions", index);
        }
        let settings = read(opened.value).within("typed_config");
        found = Some(settings.within_item("bootstrap_extensions", index)?);
    }
    Ok(found)
}

fn read(value: serde_json::Value) -> Result<CertificateAgentSettings, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        FieldError::at(field, error.inner().to_string()).within("value")
    })
}
