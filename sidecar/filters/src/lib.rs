//! The filters, one folder each, and their registry.
