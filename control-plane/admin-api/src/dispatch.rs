//! From path and method to a handler.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, request::Parts};
use weft_control_model::ResourceKind;

use crate::error::AdminError;
use crate::reply::{Reply, common_headers, preflight};
use crate::request::{Query, Request, read_body, segments};
use crate::resource::Resource;
use crate::state::AdminState;
use crate::{configs, mesh, schema};

const APISIX: &str = "/apisix/admin";
const WEFT: &str = "/weft/admin";

/// The Admin API, for the paths under `/apisix/admin` and `/weft/admin`.
pub fn router(state: AdminState) -> Router {
    Router::new().fallback(handle).with_state(state)
}

async fn handle(State(state): State<AdminState>, request: http::Request<Body>) -> Response {
    if state.cors && request.method() == Method::OPTIONS {
        return preflight();
    }
    let (parts, body) = request.into_parts();
    let reply = answer(&state, &parts, body).await.unwrap_or_else(Reply::from);
    let mut response = reply.into_response();
    common_headers(response.headers_mut(), state.cors);
    response
}

async fn answer(state: &AdminState, parts: &Parts, body: Body) -> Result<Reply, AdminError> {
    let below = |prefix: &str| {
        let rest = parts.uri.path().strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let prefix = match (below(APISIX), below(WEFT)) {
        (true, _) => APISIX,
        (_, true) => WEFT,
        _ => return Err(AdminError::NoHandler),
    };
    let segments = segments(&parts.uri, prefix);
    if parts.method == Method::HEAD && segments.is_empty() {
        return Ok(Reply::empty(StatusCode::OK));
    }
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    state.access.check(&parts.method, query.get("api_key"), &parts.headers)?;
    let target = Target::find(prefix, &segments, &parts.method)?;
    let body = read_body(&parts.headers, body).await?;
    let request = Request { method: parts.method.clone(), segments, query, body };
    target.serve(state, request).await
}

/// What a path names.
enum Target {
    Resource(ResourceKind),
    PluginList,
    Plugin,
    Schema,
    Validate,
    ValidateAll,
    Reload,
    Mesh,
    View(mesh::View),
}

impl Target {
    /// Finds it before the body is read, as an unknown path is refused first.
    fn find(prefix: &str, segments: &[String], method: &Method) -> Result<Self, AdminError> {
        let parts: Vec<_> = segments.iter().map(String::as_str).collect();
        let (target, methods) = match (prefix, parts.as_slice()) {
            (APISIX, ["plugins", "list"]) => (Self::PluginList, "GET"),
            (APISIX, ["plugins", "reload"]) => (Self::Reload, "PUT"),
            (APISIX, ["plugins", ..] | ["schema", "plugins", ..]) => (Self::Plugin, "GET"),
            (APISIX, ["configs", "validate"]) => (Self::ValidateAll, "POST"),
            (APISIX, ["schema", "validate", _]) => (Self::Validate, "POST"),
            (APISIX, ["schema", ..]) => (Self::Schema, "GET"),
            (WEFT, ["mesh"]) => (Self::Mesh, "GET PUT"),
            (_, [name, ..]) => match (prefix, mesh::View::named(name)) {
                (WEFT, Some(view)) => (Self::View(view), "GET"),
                _ => (Self::Resource(kind(prefix, name)?), "GET PUT POST DELETE PATCH"),
            },
            (_, []) => return Err(AdminError::UnsupportedResource(String::new())),
        };
        if methods.split(' ').any(|known| method.as_str() == known) {
            return Ok(target);
        }
        match target {
            Self::Reload => Err(AdminError::Method(format!(
                "please use PUT method to reload the plugins, {method} method is not allowed."
            ))),
            _ => Err(AdminError::NoHandler),
        }
    }

    async fn serve(self, state: &AdminState, mut request: Request) -> Result<Reply, AdminError> {
        match self {
            Self::Resource(kind) => {
                let resource = Resource::new(state, kind, &mut request.segments);
                resource.serve(request).await
            }
            Self::PluginList => plugin_list(&request.query),
            Self::Plugin => {
                if request.segments[0] == "schema" {
                    request.segments.remove(0);
                }
                schema::plugin_reply(request.segments.get(1).map(String::as_str), &request.query)
            }
            Self::Schema => schema::reply(request.segments.get(1).map_or("", String::as_str)),
            Self::Validate => schema::validate(&request.segments[2], request.body),
            Self::ValidateAll => configs::validate(request.body),
            Self::Reload => Ok(Reply::text(StatusCode::OK, "done")),
            Self::Mesh => mesh::settings(state, request).await,
            Self::View(view) => view.serve(state, &request).await,
        }
    }
}

fn kind(prefix: &str, name: &str) -> Result<ResourceKind, AdminError> {
    let here = |kind: &ResourceKind| match kind {
        // Of these there are only those of one consumer.
        ResourceKind::Credential | ResourceKind::Mesh => false,
        ResourceKind::PeerAuthentication | ResourceKind::AuthorizationPolicy => prefix == WEFT,
        _ => prefix == APISIX,
    };
    let mut kinds = ResourceKind::ALL.into_iter().filter(here);
    let found = kinds.find(|kind| kind.directory() == name);
    found.ok_or_else(|| AdminError::UnsupportedResource(name.to_owned()))
}

/// The names of the plugins by priority.
fn plugin_list(query: &Query) -> Result<Reply, AdminError> {
    match query.get("subsystem").unwrap_or("http") {
        "http" => Ok(Reply::ok(schema::plugin_names().into())),
        "stream" => Ok(Reply::ok(schema::STREAM_PLUGINS.to_vec().into())),
        _ => Ok(Reply::text(StatusCode::BAD_REQUEST, "invalid subsystem passed")),
    }
}
