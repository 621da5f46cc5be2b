//! SPIFFE identities and X.509 SVIDs.
