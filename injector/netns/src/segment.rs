//! What was seen on the wire: TCP segments, cut out of Ethernet frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One TCP segment that carried bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The sender.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
    /// The bytes carried; never empty.
    pub payload: Vec<u8>,
}

impl Segment {
    /// Cuts the segment out of an Ethernet frame; `None` if it is not TCP over
    /// IP or carries nothing.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        match frame.get(12..14)? {
            [0x08, 0x00] => from_ipv4(packet),
            [0x86, 0xdd] => from_ipv6(packet),
            _ => None,
        }
    }

    /// Whether the bytes begin with a TLS record's header (RFC 8446, 5.1).
    #[must_use]
    pub fn starts_tls_record(&self) -> bool {
        matches!(self.payload.as_slice(), [20..=23, 3, 1..=4, ..])
    }
}

/// Everything that a capture saw, in order.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The segments with payload.
    pub segments: Vec<Segment>,
    /// How many segments were not kept for want of room.
    pub dropped: u64,
}

impl Trace {
    /// The part of the trace between two addresses, either way.
    #[must_use]
    pub fn between(&self, one: IpAddr, other: IpAddr) -> Self {
        let segments = self
            .segments
            .iter()
            .filter(|segment| {
                let ends = (segment.source.ip(), segment.destination.ip());
                ends == (one, other) || ends == (other, one)
            })
            .cloned()
            .collect();
        Self { segments, dropped: self.dropped }
    }

    /// Whether these bytes went over the wire as they are, also when split over
    /// segments that followed each other in one direction of a connection.
    #[must_use]
    pub fn contains(&self, needle: &[u8]) -> bool {
        let mut streams: std::collections::HashMap<(SocketAddr, SocketAddr), Vec<u8>> =
            std::collections::HashMap::new();
        for segment in &self.segments {
            streams
                .entry((segment.source, segment.destination))
                .or_default()
                .extend_from_slice(&segment.payload);
        }
        streams.values().any(|stream| stream.windows(needle.len()).any(|window| window == needle))
    }

    /// How many segments begin with a TLS record.
    #[must_use]
    pub fn tls_records(&self) -> usize {
        self.segments.iter().filter(|segment| segment.starts_tls_record()).count()
    }

    /// The sum of the bytes carried.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.payload.len()).sum()
    }
}

fn from_ipv4(packet: &[u8]) -> Option<Segment> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    if *packet.get(9)? != 6 {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    from_tcp(
        Ipv4Addr::from(source).into(),
        Ipv4Addr::from(destination).into(),
        packet.get(header..total.min(packet.len()))?,
    )
}

fn from_ipv6(packet: &[u8]) -> Option<Segment> {
    let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
    if *packet.get(6)? != 6 {
        return None;
    }
    let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
    let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
    let end = packet.len().min(40 + length);
    from_tcp(
        Ipv6Addr::from(source).into(),
        Ipv6Addr::from(destination).into(),
        packet.get(40..end)?,
    )
}

fn from_tcp(source: IpAddr, destination: IpAddr, tcp: &[u8]) -> Option<Segment> {
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let payload = tcp.get(header..)?;
    if payload.is_empty() {
        return None;
    }
    Some(Segment {
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
        payload: payload.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        let total = u16::try_from(40 + payload.len()).unwrap();
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x12, 0x34, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn tcp_over_ipv4_is_cut_out_without_padding() {
        let mut padded = frame(b"hello");
        padded.extend([0; 9]);
        let segment = Segment::from_frame(&padded).unwrap();
        assert_eq!(segment.source, "10.0.0.1:4660".parse().unwrap());
        assert_eq!(segment.destination, "10.0.0.2:80".parse().unwrap());
        assert_eq!(segment.payload, b"hello");
    }

    #[test]
    fn empty_and_broken_frames_are_no_segments() {
        assert_eq!(Segment::from_frame(&frame(b"")), None);
        let whole = frame(b"x");
        for length in 0..whole.len() - 1 {
            assert_eq!(Segment::from_frame(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_word_split_over_two_segments_is_found() {
        let trace = Trace {
            segments: [b"se".as_slice(), b"cret"]
                .map(|part| Segment::from_frame(&frame(part)).unwrap())
                .to_vec(),
            dropped: 0,
        };
        assert!(trace.contains(b"secret"));
        assert!(!trace.contains(b"secrets"));
    }

    #[test]
    fn tls_records_are_told_from_http() {
        let starts =
            |payload: &[u8]| Segment::from_frame(&frame(payload)).unwrap().starts_tls_record();
        assert!(starts(&[22, 3, 1, 0, 5]));
        assert!(starts(&[23, 3, 3, 0, 5]));
        assert!(!starts(b"GET / HTTP/1.1"));
    }
}
