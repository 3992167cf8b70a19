//! From a token's verified claims to an identity.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Identity, Reason};
use crate::model::{RoomId, UnixMs, User, UserId};

/// The largest user id: larger ones lose digits in JSON clients, where numbers
/// are doubles, and two users would become one.
const MAX_USER_ID: u64 = (1 << 53) - 1;

const MAX_NAME_CHARS: usize = 256;
const MAX_AVATAR_CHARS: usize = 2048;
const MAX_ROLES: usize = 64;
const MAX_ROLE_CHARS: usize = 64;
const MAX_ROOMS: usize = 1024;

/// Of the claims that go to plugins, as JSON.
const MAX_CLAIMS_BYTES: usize = 8 * 1024;

type Claims = Map<String, Value>;

/// Checks and sorts the claims; the library has already checked `exp` and `nbf`.
/// `null` is as good as absent.
pub(super) fn identity(mut claims: Claims) -> Result<Identity, Reason> {
    claims.retain(|_, value| !value.is_null());
    let id = user_id(&mut claims)?;
    let name = text(&mut claims, "name", MAX_NAME_CHARS)?;
    let avatar = text(&mut claims, "avatar", MAX_AVATAR_CHARS)?;
    let roles = texts(&mut claims, "roles", MAX_ROLES, |role| {
        (!role.is_empty() && !is_longer(role, MAX_ROLE_CHARS)).then(|| role.to_owned())
    })?;
    let allowed_rooms: Option<HashSet<_>> = texts(&mut claims, "rooms", MAX_ROOMS, RoomId::new)?
        .map(|rooms| rooms.into_iter().collect());
    let expires_at = claims.remove("exp").as_ref().and_then(unix_ms);
    claims.remove("nbf");
    let claims = Value::Object(claims).to_string();
    if claims.len() > MAX_CLAIMS_BYTES {
        return Err(wrong("the rest", "too large"));
    }
    Ok(Identity {
        user: User {
            id,
            name,
            avatar,
            roles: roles.unwrap_or_default(),
            claims,
        },
        allowed_rooms,
        expires_at,
    })
}

fn wrong(name: &'static str, problem: &'static str) -> Reason {
    Reason::Claim { name, problem }
}

/// `id`, or else `sub`, which RFC 7519 makes a text.
fn user_id(claims: &mut Claims) -> Result<UserId, Reason> {
    let (name, id) = match (claims.remove("id"), claims.get("sub")) {
        (Some(id), _) => ("id", id.as_u64()),
        (None, Some(Value::String(digits))) => ("sub", canonical(digits)),
        (None, Some(number)) => ("sub", number.as_u64()),
        (None, None) => return Err(wrong("id", "missing, and sub too")),
    };
    if name == "sub" {
        claims.remove("sub");
    }
    match id {
        Some(id) if id <= MAX_USER_ID => Ok(UserId(id)),
        Some(_) => Err(wrong(name, "over 2^53 - 1, the largest exact JSON number")),
        None => Err(wrong(name, "not an unsigned integer")),
    }
}

/// Only the one spelling of a number: `007` is not user 7.
fn canonical(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

fn text(
    claims: &mut Claims,
    name: &'static str,
    max_chars: usize,
) -> Result<Option<String>, Reason> {
    match claims.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if is_longer(&text, max_chars) => Err(wrong(name, "too long")),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text)),
        Some(_) => Err(wrong(name, "not a string")),
    }
}

fn texts<T>(
    claims: &mut Claims,
    name: &'static str,
    max: usize,
    item: impl Fn(&str) -> Option<T>,
) -> Result<Option<Vec<T>>, Reason> {
    match claims.remove(name) {
        None => Ok(None),
        Some(Value::Array(values)) if values.len() > max => Err(wrong(name, "too many")),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().and_then(&item))
            .collect::<Option<_>>()
            .map(Some)
            .ok_or(wrong(
                name,
                "has an item that is no string of proper length",
            )),
        Some(_) => Err(wrong(name, "not an array")),
    }
}

fn is_longer(text: &str, max_chars: usize) -> bool {
    text.chars().nth(max_chars).is_some()
}

/// From seconds, whole or not.
fn unix_ms(seconds: &Value) -> Option<UnixMs> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from float to integer saturates"
    )]
    let fraction = |seconds: f64| (seconds * 1000.0) as u64;
    let whole = seconds.as_u64().map(|seconds| seconds.saturating_mul(1000));
    whole.or_else(|| seconds.as_f64().map(fraction)).map(UnixMs)
}
