//! The PROXY header that connections to an upstream begin with.

use weft_filter_api::Tlv;
use weft_filters::config::{FieldError, Within};
use weft_model::{PassTlvs, ProxyHeader, ProxyVersion};
use weft_xds_proto::pb::envoy::config::core::v3::{
    ProxyProtocolConfig, TlvEntry, proxy_protocol_config::Version,
    proxy_protocol_pass_through_tl_vs::PassTlVsMatchType,
};

/// Compiles what a header says.
pub(super) fn proxy_header(config: &ProxyProtocolConfig) -> Result<ProxyHeader, FieldError> {
    let version = match Version::try_from(config.version) {
        Ok(Version::V1) => ProxyVersion::V1,
        Ok(Version::V2) => ProxyVersion::V2,
        Err(_) => {
            return Err(FieldError::at(
                "version",
                format!("{} is not one of V1, V2", config.version),
            ));
        }
    };
    let mut added = Vec::with_capacity(config.added_tlvs.len());
    for (index, entry) in config.added_tlvs.iter().enumerate() {
        added.push(tlv(entry).within_item("added_tlvs", index)?);
    }
    let pass = match &config.pass_through_tlvs {
        None => PassTlvs::None,
        Some(pass) if pass.match_type == PassTlVsMatchType::IncludeAll as i32 => PassTlvs::All,
        Some(pass) => {
            let each = pass.tlv_type.iter().enumerate();
            let each = each.map(|(index, value)| {
                kind(*value).within_item("tlv_type", index).within("pass_through_tlvs")
            });
            PassTlvs::Some(each.collect::<Result<_, _>>()?)
        }
    };
    Ok(ProxyHeader { version, added, pass })
}

fn tlv(entry: &TlvEntry) -> Result<Tlv, FieldError> {
    if entry.format_string.is_some() {
        return Err(FieldError::unsupported("format_string"));
    }
    if entry.value.is_empty() {
        return Err(FieldError::missing("value"));
    }
    Ok(Tlv { kind: kind(entry.r#type).within("type")?, value: entry.value.clone().into() })
}

fn kind(value: u32) -> Result<u8, FieldError> {
    u8::try_from(value).map_err(|_| FieldError::new(format!("{value} is above 255")))
}
