//! Secrets in files.

use std::path::{Path, PathBuf};

use weft_filters::config::{FieldError, Within, decode};
use weft_tls::{CertifiedChain, SpecError, TrustBundle, ValidationSpec};
use weft_xds_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use weft_xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;

use crate::compile::secret::{SecretValue, read, secret};

/// A secret that is in files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileSecret {
    /// By this name in a file with a `DiscoveryResponse` (`path_config_source`).
    Listed {
        /// The file.
        file: PathBuf,
        /// The secret's name in it.
        name: String,
    },
    /// Istio's `file-cert:<chain>~<key>`.
    Pair {
        /// The certificate chain, PEM.
        chain: PathBuf,
        /// The private key, PEM.
        key: PathBuf,
    },
    /// Istio's `file-root:<roots>`.
    Roots(PathBuf),
}

impl FileSecret {
    /// What one of Istio's names for files stands for.
    pub(super) fn of_istio(name: &str) -> Option<Self> {
        if let Some(both) = name.strip_prefix("file-cert:") {
            let (chain, key) = both.split_once('~')?;
            return Some(Self::Pair { chain: chain.into(), key: key.into() });
        }
        name.strip_prefix("file-root:").map(|roots| Self::Roots(roots.into()))
    }

    /// The name that it goes by: its own, or the file of its certificates.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Listed { name, .. } => name,
            Self::Pair { chain: file, .. } | Self::Roots(file) => file.to_str().unwrap_or("a file"),
        }
    }

    /// Reads it, and says which files it is made of.
    ///
    /// # Errors
    /// A file can't be read, or what it holds is no such secret.
    pub(crate) fn load(&self) -> Result<(SecretValue, Vec<PathBuf>), FieldError> {
        let fail = |error: SpecError| FieldError::new(error.to_string());
        match self {
            Self::Listed { file, name } => {
                let (value, mut files) = listed(&bytes(file)?, name)?;
                files.push(file.clone());
                Ok((value, files))
            }
            Self::Pair { chain, key } => {
                let pair = CertifiedChain::from_pem(&bytes(chain)?, &bytes(key)?);
                let value = SecretValue::Certificate(pair.map_err(fail)?);
                Ok((value, vec![chain.clone(), key.clone()]))
            }
            Self::Roots(file) => {
                let roots = TrustBundle::from_pem(&bytes(file)?).map_err(fail)?;
                let spec = ValidationSpec::new(roots, Vec::new());
                Ok((SecretValue::Validation(spec), vec![file.clone()]))
            }
        }
    }
}

fn bytes(file: &Path) -> Result<Vec<u8>, FieldError> {
    read(&file.to_string_lossy())
}

/// The secret `name` in a `DiscoveryResponse`, YAML or JSON, and the files that it names.
fn listed(text: &[u8], name: &str) -> Result<(SecretValue, Vec<PathBuf>), FieldError> {
    let text = std::str::from_utf8(text).map_err(|_| FieldError::new("is not text"))?;
    let response: DiscoveryResponse =
        weft_xds_proto::from_yaml(text).map_err(|error| FieldError::new(error.to_string()))?;
    for (index, resource) in response.resources.iter().enumerate() {
        let config: Secret = decode(resource).within_item("resources", index)?;
        if config.name == name {
            let value = secret(&config).within_item("resources", index)?;
            return Ok((value, files(&config)));
        }
    }
    Err(FieldError::new(format!("has no secret {name:?}")))
}

/// The files that a secret is made of.
fn files(config: &Secret) -> Vec<PathBuf> {
    let sources: Vec<Option<&DataSource>> = match &config.r#type {
        Some(Type::TlsCertificate(one)) => {
            vec![one.certificate_chain.as_ref(), one.private_key.as_ref()]
        }
        Some(Type::ValidationContext(one)) => vec![one.trusted_ca.as_ref(), one.crl.as_ref()],
        _ => Vec::new(),
    };
    let paths = sources.into_iter().flatten().filter_map(|source| match &source.specifier {
        Some(Specifier::Filename(path)) => Some(PathBuf::from(path)),
        _ => None,
    });
    paths.collect()
}
