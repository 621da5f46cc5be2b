//! Addresses, ports and ranges.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use weft_filters::config::{FieldError, Within};
use weft_model::ListenAddress;
use weft_xds_proto::pb::envoy::config::core::v3::{
    Address, CidrRange, SocketAddress,
    address::Address as Kind,
    socket_address::{PortSpecifier, Protocol},
};

/// A port.
pub(super) fn port(value: u32) -> Result<u16, FieldError> {
    u16::try_from(value).map_err(|_| FieldError::new(format!("{value} is not a port (0 to 65535)")))
}

/// The port of a socket address.
pub(super) fn port_of(address: &SocketAddress) -> Result<u16, FieldError> {
    match &address.port_specifier {
        Some(PortSpecifier::PortValue(value)) => port(*value).within("port_value"),
        Some(PortSpecifier::NamedPort(_)) => Err(FieldError::unsupported("named_port")),
        None => Err(FieldError::missing("port_value")),
    }
}

/// An IP address and port.
pub(super) fn socket_address(address: &SocketAddress) -> Result<SocketAddr, FieldError> {
    if address.protocol != Protocol::Tcp as i32 {
        return Err(FieldError::at("protocol", "only TCP is supported"));
    }
    let ip = ip(&address.address).within("address")?;
    Ok(SocketAddr::new(ip, port_of(address)?))
}

/// An IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, FieldError> {
    text.parse().map_err(|_| FieldError::new(format!("{text:?} is not an IP address")))
}

/// An address to listen at.
pub(crate) fn listen_address(address: Option<&Address>) -> Result<ListenAddress, FieldError> {
    match address.and_then(|address| address.address.as_ref()) {
        None => Err(FieldError::new("is required: give a socket_address or a pipe")),
        Some(Kind::SocketAddress(socket)) => {
            Ok(ListenAddress::Socket(socket_address(socket).within("socket_address")?))
        }
        Some(Kind::Pipe(pipe)) if pipe.path.is_empty() => {
            Err(FieldError::missing("path").within("pipe"))
        }
        Some(Kind::Pipe(pipe)) => Ok(ListenAddress::Pipe(PathBuf::from(&pipe.path))),
        Some(Kind::EnvoyInternalAddress(_)) => {
            Err(FieldError::unsupported("envoy_internal_address"))
        }
    }
}

/// A range of addresses.
pub(super) fn cidr(range: &CidrRange) -> Result<IpNet, FieldError> {
    let ip = ip(&range.address_prefix).within("address_prefix")?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    u8::try_from(length).ok().and_then(|length| IpNet::new(ip, length).ok()).ok_or_else(|| {
        FieldError::at("prefix_len", format!("{length} is too long for {}", range.address_prefix))
    })
}
