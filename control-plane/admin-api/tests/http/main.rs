//! The Admin API over real HTTP: requests, statuses and exact bodies.

mod access;
mod client;
mod kept;
mod lists;
mod mesh;
mod plugins;
mod resources;
mod ssl;
mod writes;
