//! The tokens that notifications carry, by which bots know us (contract 2.6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::{AppId, TenantId, Timestamp};
use serde_json::json;
use store::Purpose;

use super::jwt;
use super::keys::Keys;

/// As long as those that bots are used to.
const VALID_FOR: Duration = Duration::from_mins(65);

/// A signature costs a millisecond: a token is shown again for that long.
const USED_FOR: Duration = Duration::from_mins(5);

/// Tokens kept; beyond, all are forgotten and signed anew.
const KEPT_MAX: usize = 1024;

/// Signs the tokens of notifications.
#[derive(Debug)]
pub struct NotificationSigner {
    keys: Arc<Keys>,
    issuer: String,
    kept: Mutex<BTreeMap<(AppId, TenantId), (Timestamp, String)>>,
}

impl NotificationSigner {
    /// `issuer` is one of those that bots accept: `https://api.botframework.com` unless configured.
    pub fn new(keys: Arc<Keys>, issuer: String) -> Self {
        Self { keys, issuer, kept: Mutex::default() }
    }

    /// A token for the notifications of an application about a call in a tenant, valid for at least an hour.
    pub fn token(&self, app: AppId, tenant: TenantId, now: Timestamp) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, token)) = kept.get(&(app, tenant))
            && now.since(*at) < USED_FOR
        {
            return token.clone();
        }
        let seconds = now.0.div_euclid(1000);
        let claims = json!({
            "aud": app.to_string(),
            "iss": self.issuer,
            "iat": seconds,
            "nbf": seconds,
            "exp": seconds + i64::try_from(VALID_FOR.as_secs()).unwrap_or(0),
            // Bots refuse a request whose token names no tenant.
            "tid": tenant.to_string(),
        });
        let token = jwt::sign(&self.keys.signing(Purpose::Notification, now), &claims);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert((app, tenant), (now, token.clone()));
        token
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::auth::jwt::Unverified;

    #[test]
    fn a_bot_finds_what_it_checks() {
        // Contract 2.6.
        let now = Timestamp(1_800_000_000_000);
        let keys = Arc::new(Keys::for_tests());
        let signer = NotificationSigner::new(Arc::clone(&keys), "https://api.botframework.com".to_owned());
        let (app, tenant) = (AppId(Uuid::nil()), TenantId(Uuid::max()));
        let token = signer.token(app, tenant, now);
        let unverified = Unverified::parse(&token).unwrap();
        let key = keys.find(Purpose::Notification, &unverified.kid).unwrap();
        let claims = unverified.verify(&key).unwrap();
        assert_eq!(claims["aud"], app.to_string());
        assert_eq!(claims["iss"], "https://api.botframework.com");
        assert_eq!(claims["tid"], tenant.to_string());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), 65 * 60);

        assert_eq!(signer.token(app, tenant, now + Duration::from_mins(4)), token);
        assert_ne!(signer.token(app, tenant, now + Duration::from_mins(6)), token);
        assert_ne!(signer.token(AppId(Uuid::max()), tenant, now), token);
    }
}
