//! The claims, each shown by traffic.

mod edge;
mod policy;
mod resilience;
mod split;
mod wire;

use anyhow::Result;

use super::mesh::Mesh;
use super::screen::Screen;

/// A claim and what became of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) claim: &'static str,
    /// What showed it, or why it does not hold.
    pub(crate) result: Result<String>,
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        self.result.is_ok()
    }
}

struct Book<'a> {
    screen: &'a Screen,
    verdicts: Vec<Verdict>,
}

impl Book<'_> {
    fn enter(&mut self, claim: &'static str, result: Result<String>) {
        let mark = if result.is_ok() { "ok" } else { "FAIL" };
        self.screen.progress(&format!("{mark}: {claim}"));
        self.verdicts.push(Verdict { claim, result });
    }
}

/// Shows every claim, also after one has failed.
pub(crate) async fn run_all(screen: &Screen, mesh: &mut Mesh<'_>) -> Vec<Verdict> {
    let mut book = Book { screen, verdicts: Vec::new() };
    book.enter("the client calls http://greeter/ in plain HTTP", wire::plain_call(mesh).await);
    book.enter("between namespaces there is only mutual TLS", wire::encrypted(mesh).await);
    book.enter("the service sees its caller's SPIFFE identity", wire::identity(mesh).await);
    book.enter("a 90/10 split holds", split::holds(mesh).await);
    book.enter("50/50 takes effect at once, no request fails", split::moves(mesh).await);
    book.enter("a STRICT workload refuses plaintext", policy::strict(mesh).await);
    book.enter("the edge serves the service over TLS", edge::serves(mesh).await);
    book.enter("without the control plane traffic flows on", resilience::no_control(mesh).await);
    book.enter("sidecars restarted meanwhile still serve", resilience::restart(mesh).await);
    book.enter("the control plane returns and is followed", resilience::returns(mesh).await);
    book.verdicts
}
