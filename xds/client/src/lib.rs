//! The xDS client: transport, reconnection, acknowledgement and the cache on disk.
