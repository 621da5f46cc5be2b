//! A whole mesh of the built programs in network namespaces: real interception,
//! certificates and configuration, with applications that live in the test.
//!
//! Needs root or user namespaces, iproute2 and iptables; without them the
//! tests fail and say what is missing.

mod certificates;
mod crash;
mod demand;
mod drain;
mod edge;
mod families;
mod grpc;
mod istio;
mod member;
mod outside;
mod plugins;
mod pod;
mod pods;
mod policy;
mod policy_resources;
mod propagation;
mod streams;
mod tcp;
mod transparent;
mod variants;
mod websocket;
mod world;
