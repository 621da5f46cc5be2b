//! What is wrong with a token, in the words of Envoy's replies.

/// Why a requirement is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Missing,
    NotYetValid,
    Expired,
    BadFormat,
    HeaderBase64,
    HeaderJson,
    HeaderAlg,
    HeaderAlgUnknown,
    HeaderKid,
    PayloadBase64,
    PayloadJson,
    PayloadIssuer,
    PayloadAudience,
    PayloadIssued,
    PayloadBegins,
    PayloadExpires,
    SignatureBase64,
    UnknownIssuer,
    AudienceNotAllowed,
    SubjectNotAllowed,
    NoExpiration,
    LivesTooLong,
    VerificationFails,
    NoValidKeys,
    NoMatchingKey,
    FetchFailed,
}

impl Status {
    /// The text of the reply.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::BadFormat => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderJson => "Jwt header is an invalid JSON",
            Self::HeaderAlg => "Jwt header [alg] field is required and must be a string",
            Self::HeaderAlgUnknown => "Jwt header [alg] is not supported",
            Self::HeaderKid => "Jwt header [kid] field is not a string",
            Self::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadJson => "Jwt payload is an invalid JSON",
            Self::PayloadIssuer => "Jwt payload [iss] field is not a string",
            Self::PayloadAudience => "Jwt payload [aud] field is not a string or string list",
            Self::PayloadIssued => "Jwt payload [iat] field is not an integer",
            Self::PayloadBegins => "Jwt payload [nbf] field is not an integer",
            Self::PayloadExpires => "Jwt payload [exp] field is not an integer",
            Self::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::AudienceNotAllowed => "Audiences in Jwt are not allowed",
            Self::SubjectNotAllowed => "Subject in Jwt is not allowed",
            Self::NoExpiration => "Jwt must have an expiration",
            Self::LivesTooLong => "Jwt has an expiration that is too far in the future",
            Self::VerificationFails => "Jwt verification fails",
            Self::NoValidKeys => "Jwks doesn't have any valid public key",
            Self::NoMatchingKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::FetchFailed => "Jwks remote fetch is failed",
        }
    }

    /// Envoy's number for it, where one is known.
    pub(super) fn code(self) -> Option<u32> {
        Some(match self {
            Self::Missing => 1,
            Self::NotYetValid => 2,
            Self::Expired => 3,
            Self::BadFormat => 4,
            Self::HeaderBase64 => 5,
            Self::HeaderJson => 6,
            Self::HeaderAlg => 7,
            Self::HeaderAlgUnknown => 8,
            Self::HeaderKid => 9,
            Self::PayloadBase64 => 10,
            Self::PayloadJson => 11,
            Self::PayloadIssuer => 12,
            Self::PayloadIssued => 14,
            Self::PayloadBegins => 16,
            Self::PayloadExpires => 18,
            Self::PayloadAudience => 21,
            Self::SignatureBase64 => 22,
            Self::UnknownIssuer => 24,
            Self::AudienceNotAllowed => 25,
            Self::VerificationFails => 26,
            Self::NoValidKeys => 31,
            Self::NoMatchingKey => 32,
            Self::SubjectNotAllowed
            | Self::NoExpiration
            | Self::LivesTooLong
            | Self::FetchFailed => return None,
        })
    }

    /// Whether another failure says more: nothing was found that concerns the provider.
    pub(super) fn is_vague(self) -> bool {
        matches!(self, Self::Missing | Self::UnknownIssuer)
    }
}
