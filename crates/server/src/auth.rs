//! Who may ask, and how we prove who we are.
//!
//! Applications get tokens from us by client credentials ([`token`]) and show them with every request ([`principal`]);
//! what a token allows is in its roles ([`permissions`]). Notifications carry tokens of ours, signed by keys of their
//! own ([`NotificationSigner`]). Published documents are in [`openid`], keys in [`keys`].

mod jwt;
pub mod keys;
mod notification;
pub(crate) mod openid;
pub mod permissions;
pub mod principal;
mod secret;
pub mod token;

use std::time::{SystemTime, UNIX_EPOCH};

use control::Timestamp;
use uuid::Uuid;

pub use keys::{KeyError, Keys};
pub use notification::NotificationSigner;
pub use permissions::{Permission, Roles};
pub use principal::{Caller, Denial, Tokens};
pub use secret::{Secrets, hash_secret, secret_matches};

/// Wall time: tokens and keys live by it.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A random GUID (OQ-20).
///
/// # Panics
/// When the operating system has no randomness to give, without which nothing here is safe.
pub fn fresh_id() -> Uuid {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
