//! Statistics and access logs.
