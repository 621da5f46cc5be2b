//! Where endpoints come from: the mesh itself and DNS.
