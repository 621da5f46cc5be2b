//! Sockets: listeners, original destination, protocol sniffing, relaying and draining.
