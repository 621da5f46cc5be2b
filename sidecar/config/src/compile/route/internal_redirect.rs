//! Redirects that the proxy follows itself.

use smallvec::SmallVec;
use weft_filters::config::{FieldError, Within, decode, header_name};
use weft_model::{InternalRedirect, RedirectPredicate};
use weft_xds_proto::any::type_name;
use weft_xds_proto::pb::envoy::config::core::v3::TypedExtensionConfig;
use weft_xds_proto::pb::envoy::config::route::v3::{
    InternalRedirectPolicy, RouteAction, route_action::InternalRedirectAction,
};
use weft_xds_proto::pb::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;

/// The statuses that may be followed.
const REDIRECTS: [u32; 5] = [301, 302, 303, 307, 308];
const PREVIOUS: &str = "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig";
const ALLOWED: &str =
    "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig";
const SAFE: &str = "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig";

/// The policy of a route, by either of its fields.
#[expect(deprecated, reason = "control planes still send the older fields")]
pub(super) fn internal_redirect(
    config: &RouteAction,
) -> Result<Option<Box<InternalRedirect>>, FieldError> {
    if let Some(policy) = &config.internal_redirect_policy {
        let compiled = compile(policy).within("internal_redirect_policy")?;
        return Ok(Some(Box::new(compiled)));
    }
    let older = InternalRedirectAction::HandleInternalRedirect as i32;
    Ok((config.internal_redirect_action == older).then(|| {
        Box::new(InternalRedirect {
            max: config.max_internal_redirects.as_ref().map_or(1, |max| max.value),
            codes: SmallVec::from_slice(&[302]),
            cross_scheme: false,
            predicates: Vec::new(),
            copied: Vec::new(),
        })
    }))
}

fn compile(config: &InternalRedirectPolicy) -> Result<InternalRedirect, FieldError> {
    let mut codes: SmallVec<[u16; 5]> = SmallVec::new();
    // Others are left out, as Envoy does.
    let known = config.redirect_response_codes.iter().filter(|code| REDIRECTS.contains(code));
    codes.extend(known.filter_map(|code| u16::try_from(*code).ok()));
    if config.redirect_response_codes.is_empty() {
        codes.push(302);
    }
    let mut predicates = Vec::with_capacity(config.predicates.len());
    for (index, one) in config.predicates.iter().enumerate() {
        predicates.push(predicate(one).within_item("predicates", index)?);
    }
    let mut copied = Vec::with_capacity(config.response_headers_to_copy.len());
    for (index, name) in config.response_headers_to_copy.iter().enumerate() {
        copied.push(header_name(name).within_item("response_headers_to_copy", index)?);
    }
    Ok(InternalRedirect {
        max: config.max_internal_redirects.as_ref().map_or(1, |max| max.value),
        codes,
        cross_scheme: config.allow_cross_scheme_redirect,
        predicates,
        copied,
    })
}

fn predicate(config: &TypedExtensionConfig) -> Result<RedirectPredicate, FieldError> {
    let any = config.typed_config.as_ref().ok_or_else(|| FieldError::missing("typed_config"))?;
    match type_name(&any.type_url) {
        PREVIOUS => Ok(RedirectPredicate::PreviousRoutes),
        SAFE => Ok(RedirectPredicate::SafeCrossScheme),
        ALLOWED => {
            let config: AllowListedRoutesConfig = decode(any).within("typed_config")?;
            Ok(RedirectPredicate::AllowListed(config.allowed_route_names))
        }
        other => {
            let reason = format!("{other:?} is no predicate that Weft knows");
            Err(FieldError::at("typed_config", reason))
        }
    }
}
