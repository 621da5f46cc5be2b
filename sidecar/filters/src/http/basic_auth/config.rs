//! `http.basic_auth.v3.BasicAuth` and `BasicAuthPerRoute`.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use weft_filter_api::RouteFilterConfig;
use weft_xds_proto::pb::envoy::config::core::v3::DataSource;
use weft_xds_proto::pb::envoy::extensions::filters::http::basic_auth::v3::{
    BasicAuth as PbFilter, BasicAuthPerRoute,
};
use weft_xds_proto::pb::google::protobuf::Any;

use super::{BasicAuth, UserList, Users};
use crate::config::{FieldError, Within, data_source, decode, header_name};
use crate::{FilterCx, HttpFilterKind};

/// Bytes of a SHA-1.
const DIGEST: usize = 20;

pub(crate) fn compile(config: &Any, cx: &mut FilterCx<'_>) -> Result<HttpFilterKind, FieldError> {
    let config: PbFilter = decode(config)?;
    let header = |name: &str, field: &str| match name {
        "" => Ok(None),
        name => header_name(name).map(Some).within(field),
    };
    let counter = |name: &str| cx.scope().counter(&format!("basic_auth.{name}"));
    let source = header(&config.authentication_header, "authentication_header")?;
    Ok(HttpFilterKind::Filter(Arc::new(BasicAuth {
        users: Arc::new(users(config.users.as_ref())?),
        forward: header(&config.forward_username_header, "forward_username_header")?,
        header: source.unwrap_or(AUTHORIZATION),
        allow_missing: config.allow_missing,
        allowed: counter("allowed"),
        denied: counter("denied"),
    })))
}

pub(crate) fn per_route(
    config: &Any,
    _: &mut FilterCx<'_>,
) -> Result<RouteFilterConfig, FieldError> {
    let config: BasicAuthPerRoute = decode(config)?;
    Ok(Arc::new(users(config.users.as_ref())?))
}

/// Lines as `htpasswd -s` writes them: `name:{SHA}` and the digest in base64.
fn users(source: Option<&DataSource>) -> Result<UserList, FieldError> {
    let source = source.ok_or_else(|| FieldError::missing("users"))?;
    let (field, content) = data_source(source).within("users")?;
    let wrong = |reason: String| FieldError::at(field, reason).within("users");
    let content = String::from_utf8(content).map_err(|_| wrong("is not text".to_owned()))?;
    let mut users = Users::new();
    let lines = content.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let line_is = |what: &str| wrong(format!("line {}: {what}", index + 1));
        let (name, hash) = line.split_once(':').ok_or_else(|| line_is("has no colon"))?;
        let hash = hash.strip_prefix("{SHA}").ok_or_else(|| line_is("is not a {SHA} hash"))?;
        let hash = BASE64_STANDARD.decode(hash).ok().filter(|hash| hash.len() == DIGEST);
        let hash = hash.ok_or_else(|| line_is("is not a SHA-1 in base64"))?;
        if name.is_empty() || users.insert(name.to_owned(), hash).is_some() {
            return Err(line_is("has an empty name or one that was there before"));
        }
    }
    if users.is_empty() {
        return Err(wrong("names nobody".to_owned()));
    }
    Ok(UserList(users))
}
