//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use weft_filter_api::Tlv;

use super::{Findings, InspectError};
use crate::stream::{Peeked, RawStream};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1.
const LONGEST_V1: usize = 107;
/// The longest header that is accepted at all.
const LONGEST: usize = 4096;

/// A header of the PROXY protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How long it is, bytes.
    pub length: usize,
    /// The client and where it connected to; `None`: the header does not tell.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// What version 2 says besides.
    pub tlvs: Vec<Tlv>,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The bytes begin otherwise.
    #[error("the header is missing")]
    Absent,
    /// They begin as a header does, and go on otherwise.
    #[error("the header is malformed")]
    Malformed,
}

/// Reads the header off the stream and takes its addresses over.
pub(super) async fn take_header(
    stream: &mut RawStream,
    optional: bool,
    findings: &mut Findings,
) -> Result<(), InspectError> {
    let parsed = stream.peek(LONGEST, |bytes, last| match parse_proxy_header(bytes) {
        Ok(None) if !last => Peeked::More,
        other => Peeked::Done(other),
    });
    let header = match parsed.await? {
        Some(Ok(Some(header))) => header,
        Some(Ok(None) | Err(ProxyHeaderError::Absent)) if optional => return Ok(()),
        None | Some(Ok(None) | Err(ProxyHeaderError::Absent)) => {
            return Err(InspectError::Refused("proxy_protocol: the header is missing"));
        }
        Some(Err(ProxyHeaderError::Malformed)) => {
            return Err(InspectError::Refused("proxy_protocol: the header is malformed"));
        }
    };
    let mut left = header.length;
    while left > 0 {
        let mut buffer = vec![0; left];
        left -= stream.read(&mut buffer).await?;
    }
    if let Some((remote, local)) = header.addresses {
        findings.remote = remote;
        findings.restored |= findings.local != local;
        findings.local = local;
    }
    if !header.tlvs.is_empty() {
        findings.tlvs = Some(header.tlvs.into());
    }
    Ok(())
}

/// Reads the header that a connection begins with, of either version.
///
/// `Ok(None)`: so far it may be one; more bytes are needed.
///
/// # Errors
/// [`ProxyHeaderError`]: there is none, or it is broken.
pub fn parse_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    if starts(bytes, SIGNATURE) {
        return parse_v2(bytes);
    }
    if starts(bytes, b"PROXY ") {
        return parse_v1(bytes);
    }
    Err(ProxyHeaderError::Absent)
}

/// Whether `bytes` and `beginning` agree as far as both go.
fn starts(bytes: &[u8], beginning: &[u8]) -> bool {
    let shared = bytes.len().min(beginning.len());
    bytes[..shared] == beginning[..shared]
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        let full = bytes.len() >= LONGEST_V1;
        return if full { Err(ProxyHeaderError::Malformed) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| ProxyHeaderError::Malformed)?;
    let length = end + 2;
    let mut words = line.split(' ').skip(1);
    if words.next() == Some("UNKNOWN") {
        return Ok(Some(ProxyHeader { length, addresses: None, tlvs: Vec::new() }));
    }
    let mut word = || words.next();
    let read = || -> Option<(SocketAddr, SocketAddr)> {
        let (from, to): (IpAddr, IpAddr) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let (source, target): (u16, u16) = (word()?.parse().ok()?, word()?.parse().ok()?);
        Some((SocketAddr::new(from, source), SocketAddr::new(to, target)))
    };
    let addresses = { read }().ok_or(ProxyHeaderError::Malformed)?;
    Ok(Some(ProxyHeader { length, addresses: Some(addresses), tlvs: Vec::new() }))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let Some(head) = bytes.get(SIGNATURE.len()..SIGNATURE.len() + 4) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let whole = SIGNATURE.len() + 4 + length;
    if head[0] >> 4 != 2 || whole > LONGEST {
        return Err(ProxyHeaderError::Malformed);
    }
    let Some(body) = bytes.get(SIGNATURE.len() + 4..whole) else { return Ok(None) };
    let local_command = head[0] & 0xf == 0;
    let (addresses, end) = match head[1] {
        _ if local_command => (None, body.len()),
        0x11 => (v4(body), 12),
        0x21 => (v6(body), 36),
        _ => (None, body.len()),
    };
    let tlvs = tlvs(body.get(end..).unwrap_or_default())?;
    Ok(Some(ProxyHeader { length: whole, addresses, tlvs }))
}

fn tlvs(mut rest: &[u8]) -> Result<Vec<Tlv>, ProxyHeaderError> {
    let mut tlvs = Vec::new();
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = after.get(..length).ok_or(ProxyHeaderError::Malformed)?;
        tlvs.push(Tlv { kind, value: Bytes::copy_from_slice(value) });
        rest = &after[length..];
    }
    // A type without its length.
    if rest.is_empty() { Ok(tlvs) } else { Err(ProxyHeaderError::Malformed) }
}

fn v4(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    Some((SocketAddr::new(ip(0)?, port(body, 8)?), SocketAddr::new(ip(4)?, port(body, 10)?)))
}

fn v6(body: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    Some((SocketAddr::new(ip(0)?, port(body, 32)?), SocketAddr::new(ip(16)?, port(body, 34)?)))
}

fn port(body: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> ProxyHeader {
        parse_proxy_header(bytes).unwrap().unwrap()
    }

    #[test]
    fn version_1_tells_addresses() {
        let line = b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\nGET";
        let expected = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let told = header(line);
        assert_eq!((told.length, told.addresses), (38, Some(expected)));
        assert_eq!(header(b"PROXY UNKNOWN\r\n").addresses, None);
        assert_eq!(parse_proxy_header(b"PROXY TCP4 x\r\n"), Err(ProxyHeaderError::Malformed));
        assert_eq!(parse_proxy_header(b"PRO"), Ok(None));
        assert_eq!(parse_proxy_header(b"GET / HTTP/1.1"), Err(ProxyHeaderError::Absent));
    }

    #[test]
    fn version_2_tells_addresses() {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0, 80, b'G']);
        let expected = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let told = header(&bytes);
        assert_eq!((told.length, told.addresses), (28, Some(expected)));
        for end in 0..28 {
            assert_eq!(parse_proxy_header(&bytes[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn version_2_tells_more_than_addresses() {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x21, 0x11, 0, 17, 10, 0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0, 80]);
        bytes.extend([1, 0, 2, b'h', b'2']);
        assert_eq!(header(&bytes).tlvs, [Tlv { kind: 1, value: b"h2"[..].into() }]);
        bytes[15] = 16;
        assert_eq!(parse_proxy_header(&bytes), Err(ProxyHeaderError::Malformed));
    }
}
