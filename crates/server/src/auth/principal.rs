//! Who is asking: the bearer token of a request, checked (contract 2.3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use control::{AppId, Principal, TenantId, Timestamp};
use serde_json::Value;
use store::Purpose;
use thiserror::Error;

use super::jwt::Unverified;
use super::keys::Keys;
use super::permissions::{Permission, Roles};

/// Clocks may differ by that much.
const SKEW: Duration = Duration::from_mins(5);

/// Verified tokens kept, so that each costs one verification; beyond, all are forgotten.
const KEPT_MAX: usize = 8192;

/// What access tokens are for: Microsoft Graph, by name or by its application id.
pub(super) const AUDIENCES: [&str; 2] = ["https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"];

/// The issuer of a tenant's access tokens. It names no host of ours: a token is good under every name we have.
pub(super) fn issuer(tenant: TenantId) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

/// The application that asks, and what its token allows.
#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Principal,
    pub roles: Roles,
    /// The token stands for a user too: no calling endpoint takes those (INV-2).
    pub delegated: bool,
}

/// Why a request may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denial {
    // 401.
    #[error("Access token is empty.")]
    NoToken,
    #[error("CompactToken parsing failed with error code: 80049217")]
    Unreadable,
    #[error("Access token validation failure. Invalid signature.")]
    Signature,
    #[error("Access token validation failure. Invalid issuer.")]
    Issuer,
    #[error("Access token validation failure. Invalid audience.")]
    Audience,
    #[error("Lifetime validation failed, the token is expired.")]
    Expired,
    #[error("Lifetime validation failed, the token is not yet valid.")]
    NotYet,
    // 403.
    #[error("Application is not registered in our store.")]
    NotRegistered,
    #[error("Insufficient enterprise tenant permissions, cannot access this API.")]
    NoPermission,
    #[error("Request authorization tenant mismatch.")]
    OtherTenant,
    #[error("Call source identity invalid.")]
    SourceInvalid,
}

impl Caller {
    /// Only application permissions count: a token that stands for a user has none here (INV-2, OQ-18).
    pub fn may(&self, permissions: &[Permission]) -> Result<(), Denial> {
        if self.delegated || !self.roles.has_any(permissions) {
            return Err(Denial::NoPermission);
        }
        Ok(())
    }

    /// Nothing beyond an application's token: what else it takes was checked when the call was made.
    pub fn is_application(&self) -> Result<(), Denial> {
        if self.delegated { Err(Denial::NoPermission) } else { Ok(()) }
    }
}

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    keys: Arc<Keys>,
    /// This server's own name as a resource.
    resource: Option<String>,
    kept: Mutex<HashMap<[u8; 32], Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    caller: Caller,
    not_before: Timestamp,
    expires: Timestamp,
}

impl Tokens {
    /// `resource` is this server's base URL, if it has one.
    pub fn new(keys: Arc<Keys>, resource: Option<String>) -> Self {
        Self { keys, resource, kept: Mutex::default() }
    }

    /// Checks an `Authorization` header.
    pub fn check(&self, authorization: Option<&[u8]>, now: Timestamp) -> Result<Caller, Denial> {
        let header = authorization.filter(|header| !header.trim_ascii().is_empty()).ok_or(Denial::NoToken)?;
        let header = std::str::from_utf8(header).map_err(|_| Denial::Unreadable)?.trim();
        let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(Denial::NoToken);
        }
        let fingerprint: [u8; 32] =
            digest(&SHA256, token.as_bytes()).as_ref().try_into().map_err(|_| Denial::Unreadable)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&fingerprint).cloned();
        let kept = match kept {
            Some(kept) => kept,
            None => self.verify(token)?,
        };
        if now >= kept.expires + SKEW {
            return Err(Denial::Expired);
        }
        if now + SKEW < kept.not_before {
            return Err(Denial::NotYet);
        }
        let caller = kept.caller.clone();
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT_MAX && !all.contains_key(&fingerprint) {
            all.clear();
        }
        all.insert(fingerprint, kept);
        Ok(caller)
    }

    fn verify(&self, token: &str) -> Result<Kept, Denial> {
        let token = Unverified::parse(token).ok_or(Denial::Unreadable)?;
        let key = self.keys.find(Purpose::Access, &token.kid).ok_or(Denial::Signature)?;
        let claims = token.verify(&key).ok_or(Denial::Signature)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let seconds = |name: &str| claims.get(name).and_then(Value::as_i64).map(|s| Timestamp(s.saturating_mul(1000)));

        let tenant: TenantId = text("tid").and_then(|tid| tid.parse().ok()).ok_or(Denial::Issuer)?;
        if text("iss") != Some(&issuer(tenant)) {
            return Err(Denial::Issuer);
        }
        let audience = text("aud").unwrap_or_default().trim_end_matches('/');
        if !AUDIENCES.contains(&audience) && self.resource.as_deref() != Some(audience) {
            return Err(Denial::Audience);
        }
        let app: AppId = text("appid").and_then(|app| app.parse().ok()).ok_or(Denial::Unreadable)?;
        let roles = claims.get("roles").and_then(Value::as_array);
        let roles = Roles::of(roles.into_iter().flatten().filter_map(Value::as_str));
        Ok(Kept {
            caller: Caller { principal: Principal { app, tenant }, roles, delegated: text("scp").is_some() },
            not_before: seconds("nbf").unwrap_or_default(),
            expires: seconds("exp").ok_or(Denial::Expired)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::auth::jwt;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn claims() -> Value {
        let tenant = TenantId(Uuid::nil());
        json!({"aud": AUDIENCES[0], "iss": issuer(tenant), "tid": tenant.to_string(), "appid": Uuid::nil().to_string(),
            "roles": ["Calls.InitiateGroupCalls.All"], "nbf": NOW.0 / 1000, "exp": NOW.0 / 1000 + 3599})
    }

    #[test]
    fn every_claim_is_checked() {
        // Contract 2.3.
        let keys = Arc::new(Keys::for_tests());
        let tokens = Tokens::new(Arc::clone(&keys), Some("https://graph.example.net".to_owned()));
        let signed = |claims: &Value| format!("Bearer {}", jwt::sign(&keys.signing(Purpose::Access, NOW), claims));
        let check = |claims: &Value, now: Timestamp| tokens.check(Some(signed(claims).as_bytes()), now);
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            claims
        };
        let good = check(&claims(), NOW).unwrap();
        assert!(good.may(&[Permission::InitiateGroupCall]).is_ok());
        assert_eq!(good.may(&[Permission::Initiate]), Err(Denial::NoPermission));
        for audience in [AUDIENCES[1], "https://graph.microsoft.com/", "https://graph.example.net"] {
            assert!(check(&with("aud", json!(audience)), NOW).is_ok(), "{audience}");
        }
        let table = [
            (with("aud", json!("https://elsewhere.example")), Denial::Audience),
            (with("iss", json!("https://sts.windows.net/")), Denial::Issuer),
            (with("tid", json!(Uuid::max().to_string())), Denial::Issuer),
            (with("tid", Value::Null), Denial::Issuer),
            (with("appid", Value::Null), Denial::Unreadable),
            (with("exp", Value::Null), Denial::Expired),
        ];
        for (claims, denial) in table {
            assert_eq!(check(&claims, NOW).unwrap_err(), denial, "{claims}");
        }
        // Five minutes of skew, also for a token that was seen before.
        let minutes = |count: u64| Duration::from_mins(count);
        assert_eq!(check(&claims(), NOW - minutes(6)).unwrap_err(), Denial::NotYet);
        assert!(check(&claims(), NOW - minutes(4)).is_ok());
        assert!(check(&claims(), NOW + minutes(64)).is_ok());
        assert_eq!(check(&claims(), NOW + minutes(66)).unwrap_err(), Denial::Expired);
        // A notification token is no access token: its key is another.
        let notification = jwt::sign(&keys.signing(Purpose::Notification, NOW), &claims());
        let header = format!("Bearer {notification}");
        assert_eq!(tokens.check(Some(header.as_bytes()), NOW).unwrap_err(), Denial::Signature);
    }

    #[test]
    fn a_token_that_stands_for_a_user_may_nothing() {
        // INV-2, OQ-18
        let keys = Arc::new(Keys::for_tests());
        let tokens = Tokens::new(Arc::clone(&keys), None);
        let mut claims = claims();
        claims["scp"] = json!("User.Read");
        let header = format!("bearer {}", jwt::sign(&keys.signing(Purpose::Access, NOW), &claims));
        let caller = tokens.check(Some(header.as_bytes()), NOW).unwrap();
        assert_eq!(caller.may(&[Permission::InitiateGroupCall]), Err(Denial::NoPermission));
        assert_eq!(caller.is_application(), Err(Denial::NoPermission));
    }

    #[test]
    fn no_token_is_told_from_a_bad_one() {
        let tokens = Tokens::new(Arc::new(Keys::for_tests()), None);
        for none in [None, Some(""), Some("Bearer"), Some("Bearer  "), Some("Basic eA==")] {
            assert_eq!(tokens.check(none.map(str::as_bytes), NOW).unwrap_err(), Denial::NoToken, "{none:?}");
        }
        assert_eq!(tokens.check(Some(b"Bearer x.y.z"), NOW).unwrap_err(), Denial::Unreadable);
        assert_eq!(tokens.check(Some(b"Bearer \xff"), NOW).unwrap_err(), Denial::Unreadable);
    }
}
