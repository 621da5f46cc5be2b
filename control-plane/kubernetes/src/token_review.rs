//! Whose a service account's token is: the API server knows.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use weft_ca::{Authentication, AuthenticationError, Authenticator, Caller, TOKEN_AUDIENCE};
use weft_spiffe::{SpiffeId, TrustDomain};

const SUBJECT_PREFIX: &str = "system:serviceaccount:";
/// How long an answer may take; the caller waits.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Recognises callers by the token of their service account, made for the audience `istio-ca`.
#[derive(Clone)]
pub struct TokenReviews {
    reviews: Api<TokenReview>,
    trust_domain: TrustDomain,
}

impl TokenReviews {
    /// Asks this cluster.
    pub fn new(client: Client, trust_domain: TrustDomain) -> Self {
        Self { reviews: Api::all(client), trust_domain }
    }

    async fn review(&self, token: &str) -> Authentication {
        let spec = TokenReviewSpec {
            audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]),
            token: token.to_owned(),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let parameters = PostParams::default();
        let asked = self.reviews.create(&parameters, &review);
        let refused = |reason: String| {
            Err(AuthenticationError::Unauthenticated(format!("token review: {reason}")))
        };
        let status = match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(answer)) => answer.status.unwrap_or_default(),
            Ok(Err(error)) => return refused(format!("the API server can't be asked: {error}")),
            Err(_) => return refused(format!("no answer from the API server after {TIMEOUT:?}")),
        };
        if !status.authenticated.unwrap_or(false) {
            let reason = status.error.filter(|reason| !reason.is_empty());
            return refused(reason.unwrap_or_else(|| "the token is not valid".to_owned()));
        }
        // An API server that knows nothing of audiences names none, and judged none.
        let audiences = status.audiences.unwrap_or_default();
        if !audiences.iter().any(|audience| audience == TOKEN_AUDIENCE) {
            return refused(format!("the token is not made for the audience {TOKEN_AUDIENCE}"));
        }
        let user = status.user.and_then(|user| user.username).unwrap_or_default();
        let account = user.strip_prefix(SUBJECT_PREFIX).and_then(|rest| rest.split_once(':'));
        let id = account.and_then(|(namespace, name)| {
            SpiffeId::workload(&self.trust_domain, namespace, name).ok()
        });
        match id {
            Some(id) => Ok(Some(id)),
            None => refused(format!("{user:?} is no service account")),
        }
    }
}

impl Authenticator for TokenReviews {
    fn authenticate<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Authentication> + Send + 'a>> {
        Box::pin(async move {
            match &caller.bearer_token {
                Some(token) => self.review(token).await,
                None => Ok(None),
            }
        })
    }
}
