//! The client on whose behalf a connection is made, where the upstream is to see it: in a PROXY
//! header, or as the connection's source address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_filter_api::{ConnectionFacts, Tlv};
use weft_model::{ProxyHeader, ProxyVersion};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXIED: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// What connections show of a client; those that show the same may be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Told in a PROXY header.
    pub(crate) told: Option<Told>,
    /// The source address, and the mark that routes answers back (`original_src`).
    pub(crate) source: Option<(SocketAddr, u32)>,
}

/// What a PROXY header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// What the client's own PROXY header said besides.
    pub(crate) tlvs: Arc<[Tlv]>,
}

impl Client {
    /// What is shown of a connection's client; `tells`: there will be a PROXY header.
    pub(crate) fn shown(connection: &ConnectionFacts, tells: bool) -> Option<Arc<Self>> {
        if !tells && connection.keep_source.is_none() {
            return None;
        }
        let known = !connection.remote.ip().is_unspecified();
        let source = connection.keep_source.filter(|_| known).map(|keep| {
            let port = if keep.port { connection.remote.port() } else { 0 };
            (SocketAddr::new(connection.remote.ip(), port), keep.mark)
        });
        let told = (tells && known).then(|| Told {
            source: connection.remote,
            destination: connection.local,
            tlvs: connection.tlvs.clone().unwrap_or_default(),
        });
        (told.is_some() || source.is_some()).then(|| Arc::new(Self { told, source }))
    }
}

/// The header that a connection begins with. Without a client the proxy speaks for itself.
pub(crate) fn header(
    header: &ProxyHeader,
    client: Option<&Client>,
    own: Option<(SocketAddr, SocketAddr)>,
) -> Vec<u8> {
    let told = client.and_then(|client| client.told.as_ref());
    match header.version {
        ProxyVersion::V1 => {
            let addresses = told.map(|told| (told.source, told.destination));
            version_1(addresses.or(own))
        }
        ProxyVersion::V2 => version_2(header, told),
    }
}

fn version_1(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((source, destination)) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to) = same_family(source.ip(), destination.ip());
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let (source, destination) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {source} {destination}\r\n").into_bytes()
}

fn version_2(header: &ProxyHeader, told: Option<&Told>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let Some(told) = told else {
        out.extend([LOCAL, 0, 0, 0]);
        return out;
    };
    let mut body = Vec::with_capacity(36);
    let kind = match same_family(told.source.ip(), told.destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend(from.octets());
            body.extend(to.octets());
            TCP_OVER_IPV4
        }
        (from, to) => {
            body.extend(mapped(from));
            body.extend(mapped(to));
            TCP_OVER_IPV6
        }
    };
    body.extend(told.source.port().to_be_bytes());
    body.extend(told.destination.port().to_be_bytes());
    let added = |kind: u8| header.added.iter().any(|one| one.kind == kind);
    let passed = told.tlvs.iter().filter(|one| header.pass.includes(one.kind) && !added(one.kind));
    for Tlv { kind, value } in header.added.iter().chain(passed) {
        // A header that is longer than its length can say is cut at the last value that fits.
        let Ok(length) = u16::try_from(value.len()) else { continue };
        if body.len() + 3 + value.len() > usize::from(u16::MAX) {
            break;
        }
        body.push(*kind);
        body.extend(length.to_be_bytes());
        body.extend_from_slice(value);
    }
    out.extend([PROXIED, kind]);
    out.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(body);
    out
}

/// Addresses of one family: one of IPv4 beside one of IPv6 is mapped.
fn same_family(from: IpAddr, to: IpAddr) -> (IpAddr, IpAddr) {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V6(_)) => (from.to_ipv6_mapped().into(), to),
        (IpAddr::V6(_), IpAddr::V4(to)) => (from, to.to_ipv6_mapped().into()),
        same => same,
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use weft_model::PassTlvs;

    use super::*;

    fn tlv(kind: u8, value: &'static [u8]) -> Tlv {
        Tlv { kind, value: value.into() }
    }

    fn client(source: &str, destination: &str) -> Client {
        let address = |text: &str| text.parse().expect("an address");
        let (source, destination) = (address(source), address(destination));
        let tlvs = [tlv(1, b"h2"), tlv(2, b"name")].into();
        Client { told: Some(Told { source, destination, tlvs }), source: None }
    }

    fn of_version(version: ProxyVersion) -> ProxyHeader {
        ProxyHeader { version, added: Vec::new(), pass: PassTlvs::None }
    }

    #[test]
    fn version_1_tells_of_the_client_or_of_the_proxy() {
        let one = of_version(ProxyVersion::V1);
        let v4 = client("10.0.0.1:4000", "10.0.0.2:80");
        assert_eq!(header(&one, Some(&v4), None), b"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n");
        let mixed = client("10.0.0.1:4000", "[2001:db8::1]:80");
        let told = header(&one, Some(&mixed), None);
        assert_eq!(told, b"PROXY TCP6 ::ffff:10.0.0.1 2001:db8::1 4000 80\r\n");
        let own = Some(([127, 0, 0, 1], 5)).map(|own| (own.into(), ([127, 0, 0, 2], 6).into()));
        assert_eq!(header(&one, None, own), b"PROXY TCP4 127.0.0.1 127.0.0.2 5 6\r\n");
        assert_eq!(header(&one, None, None), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_tells_of_the_client_and_what_is_added_and_passed_on() {
        let two = of_version(ProxyVersion::V2);
        let v4 = client("10.0.0.1:4000", "10.0.0.2:80");
        let mut expected = SIGNATURE.to_vec();
        expected.extend([0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0, 80]);
        assert_eq!(header(&two, Some(&v4), None), expected);
        let more = ProxyHeader {
            added: vec![tlv(2, b"own")],
            pass: PassTlvs::All,
            ..of_version(ProxyVersion::V2)
        };
        expected[15] = 23;
        expected.extend([2, 0, 3, b'o', b'w', b'n', 1, 0, 2, b'h', b'2']);
        assert_eq!(header(&more, Some(&v4), None), expected, "what is added wins");
        let mut local = SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(header(&more, None, None), local);
    }
}
