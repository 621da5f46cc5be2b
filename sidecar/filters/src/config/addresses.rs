//! Ranges of addresses.

use ipnet::IpNet;
use weft_xds_proto::pb::envoy::config::core::v3::CidrRange;

use super::FieldError;

/// A range of addresses.
///
/// # Errors
/// It is no address, or the prefix is longer than the address.
pub fn cidr(range: &CidrRange) -> Result<IpNet, FieldError> {
    network(&range.address_prefix, range.prefix_len.as_ref().map(|length| length.value))
}

/// The range of addresses that begin with the first bits of `text`; without a length, with none.
///
/// # Errors
/// As [`cidr`].
pub(crate) fn network(text: &str, length: Option<u32>) -> Result<IpNet, FieldError> {
    let ip = text
        .parse()
        .map_err(|_| FieldError::at("address_prefix", format!("{text:?} is not an IP address")))?;
    let length = length.unwrap_or(0);
    u8::try_from(length)
        .ok()
        .and_then(|length| IpNet::new(ip, length).ok())
        .ok_or_else(|| FieldError::at("prefix_len", format!("{length} is too long for {text}")))
}
