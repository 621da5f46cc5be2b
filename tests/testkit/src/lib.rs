//! What the end-to-end tests share: processes, ports, servers, captured output.
