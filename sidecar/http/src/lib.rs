//! HTTP/1 and HTTP/2 codecs, the connection manager and the filter loop.
