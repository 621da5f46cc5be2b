//! Network namespaces joined by a bridge, for meshes on one machine.
