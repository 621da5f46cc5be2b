//! The certificate authority and its signing service.
