//! Telling HTTP from other protocols by the first line.

use std::sync::{Arc, OnceLock};

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// HTTP of this version.
    Http(Version),
    /// Something else.
    Other,
    /// Not enough bytes to tell.
    More,
}

/// The versions that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http10,
    Http11,
    Http2,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer words are no method.
const LONGEST_METHOD: usize = 32;

/// The name that filter chains match, e.g. `http/1.1`.
pub(super) fn name(version: Version) -> Arc<str> {
    static NAMES: OnceLock<[Arc<str>; 3]> = OnceLock::new();
    let names = NAMES.get_or_init(|| ["http/1.0".into(), "http/1.1".into(), "h2c".into()]);
    Arc::clone(&names[version as usize])
}

/// Which HTTP the bytes begin.
pub(super) fn version_of(bytes: &[u8]) -> Guess {
    let shared = bytes.len().min(PREFACE.len());
    if bytes[..shared] == PREFACE[..shared] {
        let whole = shared == PREFACE.len();
        return if whole { Guess::Http(Version::Http2) } else { Guess::More };
    }
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-');
    let method = method.count();
    if method > LONGEST_METHOD {
        return Guess::Other;
    }
    match bytes.get(method) {
        None => Guess::More,
        Some(b' ') if method > 0 => request_line(&bytes[method + 1..]),
        Some(_) => Guess::Other,
    }
}

/// The rest of the line: target and version.
fn request_line(bytes: &[u8]) -> Guess {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let odd = bytes.iter().any(|byte| byte.is_ascii_control() && *byte != b'\r');
        return if odd { Guess::Other } else { Guess::More };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let version = line.iter().rposition(|byte| *byte == b' ').map(|at| &line[at + 1..]);
    match version {
        Some(b"HTTP/1.1") => Guess::Http(Version::Http11),
        Some(b"HTTP/1.0") => Guess::Http(Version::Http10),
        _ => Guess::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        assert_eq!(version_of(b"GET / HTTP/1.1\r\nhost: a"), Guess::Http(Version::Http11));
        assert_eq!(version_of(b"M-SEARCH * HTTP/1.0\n"), Guess::Http(Version::Http10));
        assert_eq!(version_of(PREFACE), Guess::Http(Version::Http2));
    }

    #[test]
    fn every_beginning_asks_for_more() {
        for whole in [PREFACE, b"POST /a/b?c=d HTTP/1.1\r\n"] {
            for end in 0..whole.len() {
                assert_eq!(version_of(&whole[..end]), Guess::More, "{:?}", &whole[..end]);
            }
        }
    }

    #[test]
    fn other_protocols_are_not_http() {
        for bytes in [
            b"\x16\x03\x01".as_slice(),
            b"SSH-2.0-OpenSSH\r\n",
            b"hello\r\n",
            b"GET /\r\n",
            b"PRI * HTTP/2.0\r\n\r\nXX",
            b"*1\r\n$4\r\nPING\r\n",
            b" / HTTP/1.1\r\n",
        ] {
            assert_eq!(version_of(bytes), Guess::Other, "{bytes:?}");
        }
    }
}
