//! Who a client is, by its JSON Web Token.
//!
//! The token is signed by somebody we trust, but what it says goes to other
//! clients and to plugins: every claim is checked for type and size, and a token
//! with a wrong one is refused as a whole rather than read in part.

mod claims;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    errors::{Error, ErrorKind},
};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    config::{AuthConfig, Keys},
    model::{RoomId, UnixMs, User, UserId},
};

/// How long a token of [`Authenticator::issue`] is valid.
pub const ISSUED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Length of the secret that is made for [`Keys::Ephemeral`].
const EPHEMERAL_BYTES: usize = 48;

/// What a verified token says of its holder.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The user.
    pub user: User,
    /// Rooms that the token is limited to; `None` is any room.
    pub allowed_rooms: Option<HashSet<RoomId>>,
    /// When the token ends, if it does.
    pub expires_at: Option<UnixMs>,
}

impl Identity {
    /// Somebody of whom nothing is known. The id is taken from a range that no
    /// counter of accounts reaches and every client can represent.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn anonymous() -> Result<Self, getrandom::Error> {
        const RANGE: u64 = 1 << 52;
        let id = RANGE + getrandom::u64()? % RANGE;
        let user = User {
            id: UserId(id),
            name: None,
            avatar: None,
            roles: Vec::new(),
            claims: r#"{"anonymous":true}"#.to_owned(),
        };
        Ok(Self {
            user,
            allowed_rooms: None,
            expires_at: None,
        })
    }

    /// Whether the token lets its holder into this room.
    #[must_use]
    pub fn may_enter(&self, room: &RoomId) -> bool {
        self.allowed_rooms
            .as_ref()
            .is_none_or(|rooms| rooms.contains(room))
    }
}

/// The token in the value of an `Authorization` header.
pub(super) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Why a client is not let in. The message is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// There is no token.
    #[error("Authentication required")]
    Missing,
    /// The token is not good. The reason is for the log only: it would tell an
    /// attacker how far they have come.
    #[error("Invalid credentials")]
    Invalid(Reason),
}

/// What is not good about a token. Holds nothing of the token but names of claims.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// Over [`MAX_TOKEN_BYTES`].
    #[error("the token is too long")]
    TooLong,
    /// No JSON Web Token, or its parts are not JSON objects.
    #[error("the token is malformed")]
    Malformed,
    /// Signed by another algorithm than the one that belongs to the key.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// The header has `crit`, whose extensions nobody here understands.
    #[error("the token has critical extensions")]
    Critical,
    /// Signed with another key, or changed.
    #[error("the signature does not match")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// A claim is missing or not what it has to be.
    #[error("claim {name}: {problem}")]
    Claim {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The crypto library failed.
    #[error("cannot be verified: {0}")]
    Unverifiable(String),
}

impl From<Error> for Reason {
    fn from(error: Error) -> Self {
        let claim = |name, problem| Self::Claim { name, problem };
        match error.kind() {
            // `none` and other unknown algorithms are malformed headers to the
            // library.
            ErrorKind::InvalidToken
            | ErrorKind::Base64(_)
            | ErrorKind::Utf8(_)
            | ErrorKind::Json(_) => Self::Malformed,
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer => claim("iss", "not the configured issuer"),
            ErrorKind::InvalidAudience => claim("aud", "without the configured audience"),
            ErrorKind::MissingRequiredClaim(name) if name == "iss" => claim("iss", "missing"),
            ErrorKind::MissingRequiredClaim(_) => claim("aud", "missing"),
            ErrorKind::InvalidClaimFormat(name) if name == "exp" => claim("exp", "not a time"),
            ErrorKind::InvalidClaimFormat(_) => claim("nbf", "not a time"),
            _ => Self::Unverifiable(error.to_string()),
        }
    }
}

/// Why a server cannot authenticate anyone.
#[derive(Debug, Error)]
pub enum AuthConfigError {
    /// The system gives no random numbers.
    #[error("cannot make a secret: {0}")]
    Random(#[from] getrandom::Error),
}

/// Why no token was issued.
#[derive(Debug, Error)]
pub enum IssueError {
    /// [`Authenticator::verify`] would refuse the token.
    #[error("{0}")]
    Refused(Reason),
    /// The crypto library failed.
    #[error("cannot sign: {0}")]
    Signing(#[from] Error),
}

/// Verifies tokens, and issues them for development.
pub struct Authenticator {
    verifying: DecodingKey,
    signing: EncodingKey,
    validation: Validation,
    /// Of issued tokens.
    header: Header,
    /// Put into issued tokens, so that they pass our own checks.
    issuer: Option<String>,
    audience: Option<String>,
}

impl Authenticator {
    /// Prepares the keys.
    ///
    /// # Errors
    ///
    /// The keys cannot be made or read.
    pub fn new(config: &AuthConfig) -> Result<Self, AuthConfigError> {
        let (verifying, signing, algorithm) = match &config.keys {
            Keys::Secret(secret) => symmetric(secret.expose().as_bytes()),
            Keys::Ephemeral => {
                let mut secret = [0; EPHEMERAL_BYTES];
                getrandom::fill(&mut secret)?;
                symmetric(&secret)
            }
        };
        // One algorithm: the token does not get to choose how it is verified.
        let mut validation = Validation::new(algorithm);
        validation.leeway = config.leeway.as_secs();
        validation.validate_nbf = true;
        validation.required_spec_claims.clear();
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        match &config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        Ok(Self {
            verifying,
            signing,
            validation,
            header: Header::new(algorithm),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        })
    }

    /// Says who holds a token.
    ///
    /// # Errors
    ///
    /// [`AuthError::Missing`] if it is empty, [`AuthError::Invalid`] if it is not
    /// good now.
    pub fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        self.identify(token).map_err(AuthError::Invalid)
    }

    fn identify(&self, token: &str) -> Result<Identity, Reason> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Reason::TooLong);
        }
        let token =
            jsonwebtoken::decode::<Map<String, Value>>(token, &self.verifying, &self.validation)?;
        if token.header.crit.is_some() {
            return Err(Reason::Critical);
        }
        claims::identity(token.claims)
    }

    /// Makes a token that is valid for [`ISSUED_LIFETIME`]: for development,
    /// where no back end does.
    ///
    /// # Errors
    ///
    /// The token would not be accepted, or signing fails.
    pub fn issue(
        &self,
        user: UserId,
        name: Option<&str>,
        roles: &[String],
    ) -> Result<String, IssueError> {
        let now = UnixMs::now().0 / 1000;
        let claims = [
            ("id", Some(Value::from(user.0))),
            ("name", name.map(Value::from)),
            ("roles", Some(Value::from(roles))),
            ("iat", Some(Value::from(now))),
            ("exp", Some(Value::from(now + ISSUED_LIFETIME.as_secs()))),
            ("iss", self.issuer.as_deref().map(Value::from)),
            ("aud", self.audience.as_deref().map(Value::from)),
        ];
        let claims: Map<_, _> = claims
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        claims::identity(claims.clone()).map_err(IssueError::Refused)?;
        Ok(jsonwebtoken::encode(&self.header, &claims, &self.signing)?)
    }
}

fn symmetric(secret: &[u8]) -> (DecodingKey, EncodingKey, Algorithm) {
    (
        DecodingKey::from_secret(secret),
        EncodingKey::from_secret(secret),
        Algorithm::HS256,
    )
}
