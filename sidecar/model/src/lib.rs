//! The immutable runtime snapshot that the request path reads: listeners, filter chains, clusters.
