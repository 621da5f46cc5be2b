//! Whole resources in, snapshots and rejections out.

mod bootstrap;
mod support;
