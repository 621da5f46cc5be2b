//! What a TLS session says, in the words that filters and access logs use.

use bytes::Bytes;
use weft_filter_api::{PeerFacts, TlsFacts};
use weft_tls::{Handshake, PeerCertificate};

