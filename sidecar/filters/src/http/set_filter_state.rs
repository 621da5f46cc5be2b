//! `envoy.filters.http.set_filter_state`: writes text made of the request to filter state.

use http::request::Parts as RequestHead;
use weft_filter_api::{Flow, HttpFilter, RouteFilterConfig, StreamCx};
use weft_telemetry::TextFormat;

pub(crate) mod config;
#[cfg(test)]
mod tests;

/// `Config`, compiled; a route's takes the place of the filter's.
#[derive(Debug)]
pub(crate) struct SetFilterState {
    objects: Vec<Object>,
    clear_route: bool,
}

/// `FilterStateValue`
#[derive(Debug)]
struct Object {
    /// `object_key`
    name: String,
    /// `format_string`
    format: TextFormat,
    skip_empty: bool,
}

impl HttpFilter for SetFilterState {
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let config = route.and_then(|route| route.downcast_ref::<Self>()).unwrap_or(self);
        for object in &config.objects {
            let mut text = Vec::new();
            object.format.write_value(&cx.record(Some(head)), &mut text);
            if !text.is_empty() || !object.skip_empty {
                let text = String::from_utf8_lossy(&text).into_owned();
                cx.annotate().set_state(&object.name, text);
            }
        }
        cx.route_changed |= config.clear_route;
        Flow::Continue
    }
}
