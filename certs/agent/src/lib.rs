//! The workload side: keys, signing requests and rotation.
