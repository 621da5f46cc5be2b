//! What the configurations of filters share: errors that carry a field's path, and the common
//! messages of Envoy's API as values of the request path.

mod addresses;
mod buckets;
mod error;
mod headers;
mod matchers;
mod route_match;
mod scalars;
mod services;
mod templates;
mod values;

pub use addresses::cidr;
pub(crate) use addresses::network;
pub(crate) use buckets::token_bucket;
pub use error::{FieldError, Within};
pub use headers::{header_mutations, header_set, header_template, text_format};
pub use matchers::{full_regex, header_matcher, query_matcher, regex_substitution, string_matcher};
pub use route_match::route_match;
pub use scalars::{
    decode, duration, fraction, header_name, header_value, limit, opt_duration, runtime_fraction,
    status,
};
pub use services::{GrpcTarget, HttpTarget, data_source, grpc_service, http_uri, plain_header};
pub(crate) use templates::path_template;
pub use templates::template_rewrite;
pub(crate) use values::{metadata_matcher, state_matcher};
