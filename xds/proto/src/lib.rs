//! Envoy and xDS messages: type URLs, typed `Any` decoding, and the JSON and YAML mapping.
