//! All of HTTP's meaning of what can go wrong, in one `match` (contract 6.2).

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use control::Refusal;
use engine::CommandError;
use graph::error::{Context, Detail, envelope};
use http::{HeaderValue, StatusCode, header};
use store::StoreError;
use thiserror::Error;

use super::exchange::{Exchange, utc};
use crate::auth::{Denial, wall_clock};

/// Why a request is not answered as its sender hoped.
#[derive(Clone, Debug, Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("{0} not found.")]
    NotFound(&'static str),
    /// No JSON, or otherwise unreadable.
    #[error("{0}")]
    Unreadable(String),
    /// JSON that does not fit: says which property.
    #[error("{0}")]
    Invalid(#[from] graph::Bad),
    /// A service-level refusal with a number of its own.
    #[error("{1}")]
    Numbered(&'static str, String),
    #[error("The request body is larger than 1 MiB.")]
    TooLarge,
    #[error("{0}")]
    UnsupportedMedia(&'static str),
    #[error("The header {0} is given more than once.")]
    Ambiguous(&'static str),
    #[error("The request body did not arrive in time.")]
    TooSlow,
    #[error("This feature is not supported by this server.")]
    NotBuilt,
    #[error("This action is outside of the documented surface.")]
    NotImplemented,
    #[error("There is no such resource. Paths begin with /v1.0 or /beta, followed by /communications or /app.")]
    NoRoute,
    #[error("The HTTP method is not allowed for this resource.")]
    WrongMethod,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("The service is temporarily unavailable. Try again.")]
    Unavailable,
    /// More is asked than can be done: when to ask again.
    #[error("The service has too much to do. Try again later.")]
    Busy(Duration),
    #[error("Something went wrong on our side.")]
    Internal,
}

impl ApiError {
    /// The status, and the code that clients compare.
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Denied(denial) => denied(*denial),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "8522"),
            Self::Unreadable(_) | Self::Ambiguous(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "8523"),
            Self::Numbered(code, _) => (StatusCode::BAD_REQUEST, code),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::UnsupportedMedia(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "RequestTimeout"),
            Self::NotBuilt => (StatusCode::METHOD_NOT_ALLOWED, "8520"),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "ResourceNotFound"),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::Refused(refusal) => refused(*refusal),
            Self::Unavailable | Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        }
    }

    /// The answer, once it is known whom it goes to.
    pub(super) fn dress(&self, exchange: &Exchange) -> Response {
        let (status, code) = self.code();
        let (target, message) = match self {
            Self::Invalid(bad) if !bad.path.is_empty() => (Some(bad.path.as_str()), self.to_string()),
            _ => (None, self.to_string()),
        };
        let detail = matches!(self, Self::Denied(Denial::NoToken)).then_some(NO_TOKEN);
        let context = Context {
            date: &utc(wall_clock()),
            request_id: &exchange.request_id,
            client_request_id: &exchange.client_request_id,
        };
        let mut response = super::exchange::json(status, &envelope(code, &message, target, detail, context));
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // SDKs retry by themselves; nothing was done yet.
            let seconds = if let Self::Busy(wait) = self { wait.as_secs().max(1) } else { 2 };
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // No `claims`: SDKs would ask for another token and come back with it (contract 2.5).
            let challenge = format!(
                "Bearer realm=\"\", authorization_uri=\"{}/common/oauth2/authorize\", \
                 client_id=\"00000003-0000-0000-c000-000000000000\"",
                exchange.base
            );
            if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }
}

/// Without it, a newcomer looks for the fault in the token.
const NO_TOKEN: Detail<'_> = Detail {
    code: "NoAuthorizationHeader",
    message: "The request carried no bearer token. Microsoft's SDKs send one only to hosts they are told to trust: \
              name this server's host, without a port, in allowed_hosts (Kiota) or customHosts (graph-client).",
    target: "Authorization",
};

fn denied(denial: Denial) -> (StatusCode, &'static str) {
    match denial {
        Denial::NoToken
        | Denial::Unreadable
        | Denial::Signature
        | Denial::Issuer
        | Denial::Audience
        | Denial::Expired
        | Denial::NotYet => (StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken"),
        Denial::NotRegistered => (StatusCode::FORBIDDEN, "7503"),
        Denial::NoPermission => (StatusCode::FORBIDDEN, "7504"),
        Denial::OtherTenant => (StatusCode::FORBIDDEN, "7505"),
        Denial::SourceInvalid => (StatusCode::FORBIDDEN, "7507"),
    }
}

fn refused(refusal: Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::NoSuchCall | Refusal::NoSuchParticipant => (StatusCode::NOT_FOUND, "8522"),
        // OQ-4.
        Refusal::NotEstablished => (StatusCode::BAD_REQUEST, "8501"),
        Refusal::Terminating => (StatusCode::BAD_REQUEST, "8528"),
        // INV-5.
        Refusal::NotGroup => (StatusCode::BAD_REQUEST, "8548"),
        // OQ-7.
        Refusal::NoChat | Refusal::Myself => (StatusCode::BAD_REQUEST, "8523"),
        // OQ-5.
        Refusal::SecondBot => (StatusCode::FORBIDDEN, "Forbidden"),
        Refusal::Organizer => (StatusCode::BAD_REQUEST, "8552"),
        Refusal::Busy => (StatusCode::CONFLICT, "8519"),
        Refusal::Full => (StatusCode::BAD_REQUEST, "8523"),
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NoSuchCall => Self::Refused(Refusal::NoSuchCall),
            CommandError::Refused(refusal) => Self::Refused(refusal),
            CommandError::Unavailable => Self::Unavailable,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the store refused a request of the API");
        Self::Unavailable
    }
}

impl IntoResponse for ApiError {
    /// Leaves the error for `front`, which knows the ids that belong into the envelope.
    fn into_response(self) -> Response {
        let mut response = self.code().0.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
