//! The resources of the control plane: routes, services, upstreams, certificates, workloads, policies.
