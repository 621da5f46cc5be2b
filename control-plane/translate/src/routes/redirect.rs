//! `redirect`: an answer that leads elsewhere.

use serde::Deserialize;
use weft_control_model::plugins::PluginView;
use weft_xds_proto::pb::envoy::config::route::v3::{
    HeaderMatcher, RedirectAction,
    header_matcher::HeaderMatchSpecifier,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
};

use super::rewrite::substitution;
use crate::envoy;
use crate::problem::Unsupported;

/// The configuration of `redirect`.
#[derive(Debug, Deserialize)]
pub(super) struct Redirect {
    #[serde(default)]
    http_to_https: bool,
    uri: Option<String>,
    #[serde(default)]
    regex_uri: Vec<String>,
    ret_code: Option<u32>,
    #[serde(default)]
    append_query_string: bool,
}

impl PluginView for Redirect {
    const NAME: &'static str = "redirect";
}

/// A redirect, for requests on which these matchers hold.
pub(super) struct Redirection {
    pub(super) action: RedirectAction,
    pub(super) headers: Vec<HeaderMatcher>,
}

impl Redirect {
    /// The answers. `None` when requests over TLS go on, since they are where they should be.
    pub(super) fn translate(
        &self,
        over_tls: bool,
        https_port: u16,
    ) -> Result<Option<Vec<Redirection>>, Unsupported> {
        if self.http_to_https {
            return Ok((!over_tls).then(|| to_https(https_port)));
        }
        let mut action = RedirectAction {
            response_code: code(self.ret_code.unwrap_or(302))?.into(),
            strip_query: !self.append_query_string,
            ..Default::default()
        };
        match (&self.uri, self.regex_uri.as_slice()) {
            (Some(uri), _) => location(uri, &mut action)?,
            (None, pair) => {
                let rewrite = PathRewriteSpecifier::RegexRewrite(substitution(pair)?);
                action.path_rewrite_specifier = Some(rewrite);
            }
        }
        Ok(Some(vec![Redirection { action, headers: Vec::new() }]))
    }
}

/// GET and HEAD may change nothing on the way; others keep method and body with 308.
fn to_https(port: u16) -> Vec<Redirection> {
    let redirection = |code: RedirectResponseCode, headers| Redirection {
        action: RedirectAction {
            response_code: code.into(),
            port_redirect: if port == 443 { 0 } else { port.into() },
            scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
            ..Default::default()
        },
        headers,
    };
    let reading = HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(envoy::regex_match(
            "GET|HEAD",
        ))),
        ..Default::default()
    };
    vec![
        redirection(RedirectResponseCode::MovedPermanently, vec![reading]),
        redirection(RedirectResponseCode::PermanentRedirect, Vec::new()),
    ]
}

fn code(status: u32) -> Result<RedirectResponseCode, Unsupported> {
    Ok(match status {
        301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => {
            let reason = format!("{status}: a proxy redirects with 301, 302, 303, 307 or 308");
            return Err(Unsupported::new("ret_code", reason));
        }
    })
}

/// A path, `scheme://host/path`, or one of these with the request's own host and URI.
fn location(uri: &str, action: &mut RedirectAction) -> Result<(), Unsupported> {
    let path = match uri.split_once("://") {
        None => uri,
        Some((scheme, rest)) => {
            action.scheme_rewrite_specifier =
                Some(SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned()));
            let path_at = rest.find(['/', '$']).filter(|_| !rest.starts_with("$host"));
            let (host, path) = match rest.strip_prefix("$host") {
                Some(path) => ("", path),
                None => rest.split_at(path_at.unwrap_or(rest.len())),
            };
            let (host, port) = match host.split_once(':') {
                Some((host, port)) => (host, port.parse().unwrap_or(0)),
                None => (host, 0),
            };
            action.host_redirect = host.to_owned();
            action.port_redirect = port;
            path
        }
    };
    match path {
        // The request's own path; with it comes its query.
        "$request_uri" => action.strip_query = false,
        "$uri" => {}
        fixed if fixed.contains('$') => {
            let reason = "of the variables, a proxy knows $host and, at the end, $uri or \
                          $request_uri; use regex_uri";
            return Err(Unsupported::new("uri", reason));
        }
        "" => action.path_rewrite_specifier = Some(PathRewriteSpecifier::PathRedirect("/".into())),
        fixed => {
            action.path_rewrite_specifier =
                Some(PathRewriteSpecifier::PathRedirect(fixed.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn redirects(json: Value, over_tls: bool) -> Result<Option<Vec<Redirection>>, Unsupported> {
        let plugin: Redirect = serde_json::from_value(json).expect("a configuration");
        plugin.translate(over_tls, 9443)
    }

    #[test]
    fn plain_requests_are_led_to_https_and_others_go_on() {
        let both = redirects(json!({"http_to_https": true}), false).expect("supported");
        let codes: Vec<_> = both.expect("two").iter().map(|one| one.action.response_code).collect();
        assert_eq!(codes, [0, 4]);
        assert!(redirects(json!({"http_to_https": true}), true).expect("supported").is_none());
    }

    #[test]
    fn the_location_may_name_scheme_host_and_port() {
        let one = redirects(json!({"uri": "https://a.com:8/x", "ret_code": 301}), false);
        let action = one.expect("supported").expect("one").remove(0).action;
        assert_eq!((action.host_redirect.as_str(), action.port_redirect), ("a.com", 8));
        let path = PathRewriteSpecifier::PathRedirect("/x".to_owned());
        assert_eq!(action.path_rewrite_specifier, Some(path));
        assert!(action.strip_query);
        let one = redirects(json!({"uri": "https://$host$request_uri"}), false);
        let action = one.expect("supported").expect("one").remove(0).action;
        assert!(action.host_redirect.is_empty() && !action.strip_query);
        assert_eq!(action.path_rewrite_specifier, None);
    }

    #[test]
    fn what_a_proxy_cannot_redirect_is_told() {
        let field = |json| redirects(json, false).err().expect("unsupported").field;
        assert_eq!(field(json!({"uri": "/$arg_a"})), "uri");
        assert_eq!(field(json!({"uri": "/a", "ret_code": 404})), "ret_code");
    }
}
