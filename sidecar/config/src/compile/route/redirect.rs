//! Redirects, direct responses and path rewrites.

use http::StatusCode;
use weft_filters::config::{FieldError, Within, regex_substitution, status};
use weft_model::{DirectResponse, PathRewrite, Redirect};
use weft_route::PathMatch;
use weft_xds_proto::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
};
use weft_xds_proto::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use crate::compile::address::port;
use crate::compile::data::data;

/// A rewrite of the matched prefix; for an exact path or an expression, of the whole path.
pub(super) fn prefix_rewrite(path: &PathMatch, with: &str) -> PathRewrite {
    let matched = match path {
        PathMatch::Prefix { text, .. } | PathMatch::Separated { text, .. } => Some(text.len()),
        PathMatch::Exact { .. } | PathMatch::Regex(_) | PathMatch::Connect => None,
    };
    PathRewrite::Prefix { matched, with: with.to_owned() }
}

/// A rewrite by expression.
pub(super) fn regex_rewrite(rewrite: &RegexMatchAndSubstitute) -> Result<PathRewrite, FieldError> {
    let (pattern, substitution) = regex_substitution(rewrite)?;
    Ok(PathRewrite::Regex { pattern, substitution })
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Compiles a redirect.
pub(super) fn redirect(config: &RedirectAction, path: &PathMatch) -> Result<Redirect, FieldError> {
    use PathRewriteSpecifier as Path;
    let scheme = match &config.scheme_rewrite_specifier {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => optional(scheme),
    };
    let rewrite = match &config.path_rewrite_specifier {
        None => PathRewrite::Keep,
        Some(Path::PathRedirect(path)) if path.is_empty() => PathRewrite::Keep,
        Some(Path::PathRedirect(path)) => PathRewrite::Prefix { matched: None, with: path.clone() },
        Some(Path::PrefixRewrite(with)) => prefix_rewrite(path, with),
        Some(Path::RegexRewrite(rewrite)) => regex_rewrite(rewrite).within("regex_rewrite")?,
        Some(Path::PathRewrite(_)) => return Err(FieldError::unsupported("path_rewrite")),
    };
    let status = match RedirectResponseCode::try_from(config.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => StatusCode::MOVED_PERMANENTLY,
        Ok(RedirectResponseCode::Found) => StatusCode::FOUND,
        Ok(RedirectResponseCode::SeeOther) => StatusCode::SEE_OTHER,
        Ok(RedirectResponseCode::TemporaryRedirect) => StatusCode::TEMPORARY_REDIRECT,
        Ok(RedirectResponseCode::PermanentRedirect) => StatusCode::PERMANENT_REDIRECT,
        Err(_) => {
            let reason = format!("{} is not a redirect code", config.response_code);
            return Err(FieldError::at("response_code", reason));
        }
    };
    let to_port = match config.port_redirect {
        0 => None,
        value => Some(port(value).within("port_redirect")?),
    };
    Ok(Redirect {
        scheme,
        host: optional(&config.host_redirect),
        port: to_port,
        path: rewrite,
        status,
        strip_query: config.strip_query,
    })
}

/// Compiles a direct response whose body may have `max` bytes.
pub(super) fn direct(
    config: &DirectResponseAction,
    max: u32,
) -> Result<DirectResponse, FieldError> {
    if config.body_format.is_some() {
        return Err(FieldError::unsupported("body_format"));
    }
    let body = data(config.body.as_ref()).within("body")?;
    if body.len() > max as usize {
        return Err(FieldError::at(
            "body",
            format!(
                "has {} bytes, more than the {max} of max_direct_response_body_size_bytes",
                body.len()
            ),
        ));
    }
    Ok(DirectResponse { status: status(config.status).within("status")?, body })
}
