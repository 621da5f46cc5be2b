//! What a request has to prove.

use http::request::Parts as RequestHead;
use weft_filter_api::StreamCx;

use super::provider::Provider;
use super::status::Status;

/// `JwtRequirement`
#[derive(Clone, Debug)]
pub(super) enum Requirement {
    /// `provider_name`, or `provider_and_audiences`; the provider by its place in the filter's list.
    Provider { provider: usize, audiences: Option<Vec<String>> },
    /// `requires_any`
    Any(Vec<Self>),
    /// `requires_all`
    All(Vec<Self>),
    /// `allow_missing`
    AllowMissing,
    /// `allow_missing_or_failed`
    AllowMissingOrFailed,
}

impl Requirement {
    /// Puts the places of the providers on which the requirement depends into `places`.
    pub(super) fn providers(&self, all: usize, places: &mut Vec<usize>) {
        match self {
            Self::Provider { provider, .. } => places.push(*provider),
            Self::Any(some) | Self::All(some) => {
                let alone = some
                    .iter()
                    .filter(|one| !matches!(one, Self::AllowMissing | Self::AllowMissingOrFailed));
                alone.for_each(|one| one.providers(all, places));
            }
            Self::AllowMissing | Self::AllowMissingOrFailed => places.extend(0..all),
        }
    }

    pub(super) fn verify(
        &self,
        providers: &[Provider],
        cx: &mut StreamCx,
        head: &mut RequestHead,
    ) -> Result<(), Status> {
        match self {
            Self::Provider { provider, audiences } => {
                let provider = providers.get(*provider).ok_or(Status::UnknownIssuer)?;
                provider.verify(audiences.as_deref(), cx, head)
            }
            Self::All(all) => all.iter().try_for_each(|one| one.verify(providers, cx, head)),
            Self::Any(any) => verify_any(any, providers, cx, head),
            // Alone it means the tokens of all providers.
            Self::AllowMissing | Self::AllowMissingOrFailed => {
                let each = (0..providers.len())
                    .map(|provider| Self::Provider { provider, audiences: None });
                let any: Vec<_> = each.chain(std::iter::once(self.clone())).collect();
                verify_any(&any, providers, cx, head)
            }
        }
    }
}

fn verify_any(
    any: &[Requirement],
    providers: &[Provider],
    cx: &mut StreamCx,
    head: &mut RequestHead,
) -> Result<(), Status> {
    let (mut missing, mut failed) = (false, false);
    let mut worst = Status::Missing;
    for one in any {
        match one {
            Requirement::AllowMissing => missing = true,
            Requirement::AllowMissingOrFailed => failed = true,
            other => match other.verify(providers, cx, head) {
                Ok(()) => return Ok(()),
                // The failure that says most is the one to be told.
                Err(status) if !status.is_vague() || worst == Status::Missing => worst = status,
                Err(_) => {}
            },
        }
    }
    if failed || (missing && worst == Status::Missing) { Ok(()) } else { Err(worst) }
}
