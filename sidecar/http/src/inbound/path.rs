//! Path normalisation (`normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`).

use std::borrow::Cow;

use http::request::Parts as RequestHead;
use http::{HeaderValue, Method, StatusCode, header};
use weft_filter_api::LocalReply;
use weft_model::{EscapedSlashes, HttpConnectionManager};

use super::set_path;

/// Normalises the path of a request in the order that Envoy has.
pub(super) fn normalise(
    manager: &HttpConnectionManager,
    head: &mut RequestHead,
) -> Result<(), Box<LocalReply>> {
    if head.method == Method::CONNECT {
        return Ok(());
    }
    let path = head.uri.path();
    if !path.starts_with('/') {
        let options = path == "*" && head.method == Method::OPTIONS;
        return if options { Ok(()) } else { Err(bad()) };
    }
    if !needs_work(path.as_bytes()) {
        return Ok(());
    }
    let mut new = Cow::Borrowed(path);
    let mut redirect = false;
    if manager.escaped_slashes != EscapedSlashes::Keep
        && let Some(unescaped) = unescape_slashes(path)
    {
        match manager.escaped_slashes {
            EscapedSlashes::Reject => return Err(bad()),
            EscapedSlashes::UnescapeAndRedirect => redirect = true,
            EscapedSlashes::Keep | EscapedSlashes::UnescapeAndForward => {}
        }
        new = Cow::Owned(unescaped);
    }
    if manager.normalize_path {
        new = Cow::Owned(canonical(&new).ok_or_else(bad)?);
    }
    if manager.merge_slashes && new.contains("//") {
        new = Cow::Owned(merge_slashes(&new));
    }
    if new == path {
        return Ok(());
    }
    let whole = match head.uri.query() {
        Some(query) => format!("{new}?{query}"),
        None => new.into_owned(),
    };
    if redirect {
        return Err(redirect_to(&whole));
    }
    if set_path(head, &whole) { Ok(()) } else { Err(bad()) }
}

fn bad() -> Box<LocalReply> {
    Box::new(LocalReply::text(StatusCode::BAD_REQUEST, "", "path_normalization_failed"))
}

fn redirect_to(path: &str) -> Box<LocalReply> {
    let details = "path_normalization_redirect";
    let mut reply = LocalReply::text(StatusCode::TEMPORARY_REDIRECT, "", details);
    if let Ok(location) = HeaderValue::from_str(path) {
        reply.headers.insert(header::LOCATION, location);
    }
    Box::new(reply)
}

/// Whether a path has anything that could be normalised: most have not.
fn needs_work(path: &[u8]) -> bool {
    let mut previous = 0;
    for byte in path {
        match byte {
            b'%' | b'\\' => return true,
            b'/' | b'.' if previous == b'/' => return true,
            _ => previous = *byte,
        }
    }
    false
}

/// The path with `%2F` and `%5C` unescaped; `None`: there are none.
fn unescape_slashes(path: &str) -> Option<String> {
    let mut new = String::with_capacity(path.len());
    let mut rest = path;
    let mut found = false;
    while let Some(at) = rest.find('%') {
        let slash = match rest.as_bytes().get(at + 1..at + 3) {
            Some(b"2F" | b"2f") => Some('/'),
            Some(b"5C" | b"5c") => Some('\\'),
            _ => None,
        };
        new.push_str(&rest[..at]);
        match slash {
            Some(slash) => {
                found = true;
                new.push(slash);
                rest = &rest[at + 3..];
            }
            None => {
                new.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    new.push_str(rest);
    found.then_some(new)
}

/// Decodes unreserved characters, turns `\` into `/` and resolves dot segments (RFC 3986, 6.2.2);
/// `None`: the path is malformed or holds an escaped NUL.
fn canonical(path: &str) -> Option<String> {
    let decoded = decode_unreserved(path)?.replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in decoded[1..].split('/') {
        ends_with_slash = false;
        match segment {
            "." => ends_with_slash = true,
            ".." => {
                segments.pop();
                ends_with_slash = true;
            }
            other => segments.push(other),
        }
    }
    let mut new = String::with_capacity(decoded.len());
    for segment in &segments {
        new.push('/');
        new.push_str(segment);
    }
    if ends_with_slash || new.is_empty() {
        new.push('/');
    }
    Some(new)
}

fn decode_unreserved(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let mut new = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte != b'%' {
            // Whole characters: the text is UTF-8 and `%` is never inside of one.
            let end = bytes[at..].iter().position(|byte| *byte == b'%');
            let end = end.map_or(bytes.len(), |end| at + end);
            new.push_str(&path[at..end]);
            at = end;
            continue;
        }
        let hex = bytes.get(at + 1..at + 3).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let Some(hex) = hex else {
            new.push('%');
            at += 1;
            continue;
        };
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or_default() as u8;
        let decoded = digit(hex[0]) << 4 | digit(hex[1]);
        match decoded {
            0 => return None,
            b'-' | b'.' | b'_' | b'~' => new.push(decoded as char),
            _ if decoded.is_ascii_alphanumeric() => new.push(decoded as char),
            _ => new.push_str(&path[at..at + 3]),
        }
        at += 3;
    }
    Some(new)
}

fn merge_slashes(path: &str) -> String {
    let mut new = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !new.ends_with('/') {
            new.push(character);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_resolved() {
        for (path, expected) in [
            ("/a/./b/../c", "/a/c"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/%2e%2E/a%41", "/aA"),
            ("/a\\b", "/a/b"),
            ("/a//b", "/a//b"),
            ("/%zz%2f", "/%zz%2f"),
            ("/.hidden/..x", "/.hidden/..x"),
        ] {
            assert_eq!(canonical(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(canonical("/%00"), None);
    }

    #[test]
    fn slashes_are_merged_and_unescaped() {
        assert_eq!(merge_slashes("//a///b/"), "/a/b/");
        assert_eq!(unescape_slashes("/a%2Fb%5cc%20").as_deref(), Some("/a/b\\c%20"));
        assert_eq!(unescape_slashes("/a%20"), None);
    }

    #[test]
    fn ordinary_paths_need_no_work() {
        assert!(!needs_work(b"/a/b.html"));
        for path in ["/a/./b", "/a//b", "/%41", "/a\\b", "/../a"] {
            assert!(needs_work(path.as_bytes()), "{path}");
        }
    }
}
