//! APISIX's languages, which both planes speak: expressions and schemas.
//!
//! The control plane checks what people write with them, and proxies run it. Both must agree on
//! every word, so that what was accepted is what happens.

mod expr;
mod rule;
mod schema;

pub use expr::{Expr, ExprError, Operator, Vars};
pub use rule::{Rule, Variables};
pub use schema::{Schema, wrong_type};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
