//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;

use super::{Findings, InspectError};
use crate::stream::{Peeked, RawStream};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1.
const LONGEST_V1: usize = 107;
/// The longest header that is accepted at all.
const LONGEST: usize = 4096;

/// A header: its length, and the addresses (client, destination) that it tells.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    length: usize,
    addresses: Option<(SocketAddr, SocketAddr)>,
}

enum Parsed {
    Header(Header),
    More,
    Absent,
    Malformed,
}

/// Reads the header off the stream and takes its addresses over.
pub(super) async fn take_header(
    stream: &mut RawStream,
    optional: bool,
    findings: &mut Findings,
) -> Result<(), InspectError> {
    let parsed = stream.peek(LONGEST, |bytes, last| match parse(bytes) {
        Parsed::More if !last => Peeked::More,
        other => Peeked::Done(other),
    });
    let header = match parsed.await? {
        Some(Parsed::Header(header)) => header,
        Some(Parsed::Absent | Parsed::More) if optional => return Ok(()),
        None | Some(Parsed::Absent | Parsed::More) => {
            return Err(InspectError::Refused("proxy_protocol: the header is missing"));
        }
        Some(Parsed::Malformed) => {
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
    Ok(())
}

fn parse(bytes: &[u8]) -> Parsed {
    if starts(bytes, SIGNATURE) {
        return parse_v2(bytes);
    }
    if starts(bytes, b"PROXY ") {
        return parse_v1(bytes);
    }
    Parsed::Absent
}

/// Whether `bytes` and `beginning` agree as far as both go.
fn starts(bytes: &[u8], beginning: &[u8]) -> bool {
    let shared = bytes.len().min(beginning.len());
    bytes[..shared] == beginning[..shared]
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let window = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= LONGEST_V1 { Parsed::Malformed } else { Parsed::More };
    };
    let Ok(line) = std::str::from_utf8(&window[..end]) else { return Parsed::Malformed };
    let length = end + 2;
    let mut words = line.split(' ').skip(1);
    if words.next() == Some("UNKNOWN") {
        return Parsed::Header(Header { length, addresses: None });
    }
    let mut word = || words.next();
    let read = || -> Option<(SocketAddr, SocketAddr)> {
        let (from, to): (IpAddr, IpAddr) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let (source, target): (u16, u16) = (word()?.parse().ok()?, word()?.parse().ok()?);
        Some((SocketAddr::new(from, source), SocketAddr::new(to, target)))
    };
    match { read }() {
        None => Parsed::Malformed,
        addresses => Parsed::Header(Header { length, addresses }),
    }
}

fn parse_v2(bytes: &[u8]) -> Parsed {
    let Some(head) = bytes.get(SIGNATURE.len()..SIGNATURE.len() + 4) else { return Parsed::More };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let whole = SIGNATURE.len() + 4 + length;
    if head[0] >> 4 != 2 || whole > LONGEST {
        return Parsed::Malformed;
    }
    let Some(body) = bytes.get(SIGNATURE.len() + 4..whole) else { return Parsed::More };
    let local_command = head[0] & 0xf == 0;
    let addresses = match head[1] {
        _ if local_command => None,
        0x11 => v4(body),
        0x21 => v6(body),
        _ => None,
    };
    Parsed::Header(Header { length: whole, addresses })
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

    fn header(bytes: &[u8]) -> Header {
        match parse(bytes) {
            Parsed::Header(header) => header,
            _ => panic!("no header in {bytes:?}"),
        }
    }

    #[test]
    fn version_1_tells_addresses() {
        let line = b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\nGET";
        let expected = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(header(line), Header { length: 38, addresses: Some(expected) });
        assert_eq!(header(b"PROXY UNKNOWN\r\n").addresses, None);
        assert!(matches!(parse(b"PROXY TCP4 x\r\n"), Parsed::Malformed));
        assert!(matches!(parse(b"PRO"), Parsed::More));
        assert!(matches!(parse(b"GET / HTTP/1.1"), Parsed::Absent));
    }

    #[test]
    fn version_2_tells_addresses() {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0, 80, b'G']);
        let expected = ("10.0.0.1:4000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert_eq!(header(&bytes), Header { length: 28, addresses: Some(expected) });
        for end in 0..28 {
            assert!(matches!(parse(&bytes[..end]), Parsed::More), "{end}");
        }
    }
}
