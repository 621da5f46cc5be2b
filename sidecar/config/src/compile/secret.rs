//! Secrets: certificates with keys, and what peers are judged by.

use std::collections::{HashMap, HashSet};

use weft_filters::config::{FieldError, Within};
use weft_tls::{CertifiedChain, SanKind, SanMatcher, SanPattern, TrustBundle, ValidationSpec};
use weft_xds_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use weft_xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate,
    certificate_validation_context::TrustChainVerification, secret::Type,
    subject_alt_name_matcher::SanType,
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

/// A compiled secret.
#[derive(Clone, Debug)]
pub(crate) enum SecretValue {
    /// `tls_certificate`
    Certificate(CertifiedChain),
    /// `validation_context`
    Validation(ValidationSpec),
    /// A kind that nothing here uses.
    Unused,
}

/// Where secrets come from.
#[derive(Debug, Default)]
pub(crate) struct SecretSources {
    /// Whether the certificate agent provides `default` and `ROOTCA`.
    pub(crate) agent: bool,
    /// The cluster that the aggregated stream goes to.
    pub(crate) ads_cluster: Option<String>,
    /// The clusters of the bootstrap: servers of secrets are reached by them.
    pub(crate) static_clusters: HashSet<String>,
    /// `static_resources.secrets`, by name.
    pub(crate) fixed: HashMap<String, SecretValue>,
}

/// Compiles a secret.
pub(crate) fn secret(config: &Secret) -> Result<SecretValue, FieldError> {
    match &config.r#type {
        Some(Type::TlsCertificate(config)) => {
            Ok(SecretValue::Certificate(certificate(config).within("tls_certificate")?))
        }
        Some(Type::ValidationContext(config)) => {
            Ok(SecretValue::Validation(validation(config).within("validation_context")?))
        }
        Some(Type::SessionTicketKeys(_) | Type::GenericSecret(_)) => Ok(SecretValue::Unused),
        None => Err(FieldError::new("holds nothing: give tls_certificate or validation_context")),
    }
}

/// The bytes that a data source stands for; files are read now.
pub(super) fn bytes(source: &DataSource) -> Result<Vec<u8>, FieldError> {
    match &source.specifier {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::Filename(path)) => read(path).within("filename"),
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map(String::into_bytes)
            .map_err(|error| FieldError::at("environment_variable", format!("{name}: {error}"))),
        None => Err(FieldError::new("names no source: give filename or inline_string")),
    }
}

/// Reads a file, naming it in the error.
pub(super) fn read(path: &str) -> Result<Vec<u8>, FieldError> {
    std::fs::read(path).map_err(|error| FieldError::new(format!("{path}: {error}")))
}

/// Compiles a certificate with its key.
pub(super) fn certificate(config: &TlsCertificate) -> Result<CertifiedChain, FieldError> {
    let refused = [
        (config.pkcs12.is_some(), "pkcs12"),
        (config.private_key_provider.is_some(), "private_key_provider"),
        (config.password.is_some(), "password"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let chain = config.certificate_chain.as_ref();
    let chain = chain.ok_or_else(|| FieldError::missing("certificate_chain"))?;
    let key = config.private_key.as_ref().ok_or_else(|| FieldError::missing("private_key"))?;
    let chain = bytes(chain).within("certificate_chain")?;
    let key = bytes(key).within("private_key")?;
    CertifiedChain::from_pem(&chain, &key).map_err(|error| FieldError::new(error.to_string()))
}

/// Compiles what peers are judged by.
#[expect(deprecated, reason = "Istio sends match_subject_alt_names on purpose")]
pub(super) fn validation(
    config: &CertificateValidationContext,
) -> Result<ValidationSpec, FieldError> {
    let stamped = config.require_signed_certificate_timestamp.as_ref();
    let refused = [
        (config.ca_certificate_provider_instance.is_some(), "ca_certificate_provider_instance"),
        (config.system_root_certs.is_some(), "system_root_certs"),
        (config.custom_validator_config.is_some(), "custom_validator_config"),
        (config.allow_expired_certificate, "allow_expired_certificate"),
        (stamped.is_some_and(|flag| flag.value), "require_signed_certificate_timestamp"),
    ];
    if let Some((_, field)) = refused.iter().find(|(set, _)| *set) {
        return Err(FieldError::unsupported(field));
    }
    let mut names = Vec::new();
    for (index, matcher) in config.match_typed_subject_alt_names.iter().enumerate() {
        let one = san_kind(matcher.san_type).and_then(|kind| {
            let pattern = matcher.matcher.as_ref().ok_or_else(|| FieldError::missing("matcher"));
            pattern.and_then(|pattern| san(kind, pattern).within("matcher"))
        });
        names.push(one.within_item("match_typed_subject_alt_names", index)?);
    }
    for (index, matcher) in config.match_subject_alt_names.iter().enumerate() {
        names.push(san(SanKind::Any, matcher).within_item("match_subject_alt_names", index)?);
    }
    let accepts = TrustChainVerification::AcceptUntrusted as i32;
    Ok(ValidationSpec {
        roots: config.trusted_ca.as_ref().map(roots).transpose().within("trusted_ca")?,
        san_matchers: names,
        crls: match &config.crl {
            None => Vec::new(),
            Some(crl) => vec![bytes(crl).within("crl")?],
        },
        crl_leaf_only: config.only_verify_leaf_cert_crl,
        certificate_hashes: config.verify_certificate_hash.clone(),
        spki_hashes: config.verify_certificate_spki.clone(),
        trust_any: config.trust_chain_verification == accepts,
        max_verify_depth: config.max_verify_depth.as_ref().map(|depth| depth.value),
    })
}

fn roots(source: &DataSource) -> Result<TrustBundle, FieldError> {
    TrustBundle::from_pem(&bytes(source)?).map_err(|error| FieldError::new(error.to_string()))
}

fn san_kind(kind: i32) -> Result<SanKind, FieldError> {
    match SanType::try_from(kind) {
        Ok(SanType::Uri) => Ok(SanKind::Uri),
        Ok(SanType::Dns) => Ok(SanKind::Dns),
        Ok(SanType::Email) => Ok(SanKind::Email),
        Ok(SanType::IpAddress) => Ok(SanKind::Ip),
        Ok(SanType::OtherName | SanType::Unspecified) | Err(_) => {
            Err(FieldError::at("san_type", "has to be one of URI, DNS, EMAIL, IP_ADDRESS"))
        }
    }
}

fn san(kind: SanKind, matcher: &StringMatcher) -> Result<SanMatcher, FieldError> {
    // The common compilation finds empty patterns and broken expressions.
    weft_filters::config::string_matcher(matcher)?;
    let pattern = match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => SanPattern::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => SanPattern::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => SanPattern::Suffix(text.clone()),
        Some(MatchPattern::Contains(text)) => SanPattern::Contains(text.clone()),
        Some(MatchPattern::SafeRegex(regex)) => SanPattern::Regex(regex.regex.clone()),
        Some(MatchPattern::Custom(_)) | None => return Err(FieldError::unsupported("custom")),
    };
    Ok(SanMatcher { kind, pattern, ignore_case: matcher.ignore_case })
}

/// What the validation context of a listener or cluster and that of its secret come to: lists are
/// joined, the secret's other fields win where they are set (protobuf's merge, as Envoy does it).
pub(super) fn merged(own: &ValidationSpec, secret: &ValidationSpec) -> ValidationSpec {
    fn join<T: Clone>(first: &[T], second: &[T]) -> Vec<T> {
        first.iter().chain(second).cloned().collect()
    }
    ValidationSpec {
        roots: secret.roots.clone().or_else(|| own.roots.clone()),
        san_matchers: join(&own.san_matchers, &secret.san_matchers),
        crls: if secret.crls.is_empty() { own.crls.clone() } else { secret.crls.clone() },
        crl_leaf_only: own.crl_leaf_only || secret.crl_leaf_only,
        certificate_hashes: join(&own.certificate_hashes, &secret.certificate_hashes),
        spki_hashes: join(&own.spki_hashes, &secret.spki_hashes),
        trust_any: own.trust_any || secret.trust_any,
        max_verify_depth: secret.max_verify_depth.or(own.max_verify_depth),
    }
}
