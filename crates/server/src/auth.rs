//! Who may ask, and how we prove who we are.
//!
//! Applications get tokens from us by client credentials ([`token`]; guessing is slowed down by `throttle`) and show them
//! with every request ([`principal`]); what a token allows is in its roles ([`permissions`]). Notifications carry tokens of ours, signed by keys of their
//! own ([`NotificationSigner`]). Published documents are in [`openid`], keys in [`keys`].

mod jwt;
pub mod keys;
mod notification;
pub(crate) mod openid;
pub mod permissions;
pub mod principal;
mod secret;
pub(crate) mod throttle;
pub mod token;

use std::cell::Cell;
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

thread_local! {
    /// Where ids come from on this thread, if not from the operating system.
    static SEEDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From here on, the ids that this thread makes follow from `seed`. For a world that is to be replayed, never for a
/// server: whoever knows one of them knows them all.
#[doc(hidden)]
pub fn seed_ids(seed: u64) {
    SEEDED.set(Some(seed));
}

/// SplitMix64.
fn seeded() -> Option<u64> {
    let state = SEEDED.get()?.wrapping_add(0x9E37_79B9_7F4A_7C15);
    SEEDED.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Some(mixed ^ (mixed >> 31))
}

/// A random GUID (OQ-20).
///
/// # Panics
/// When the operating system has no randomness to give, without which nothing here is safe.
pub fn fresh_id() -> Uuid {
    let mut bytes = [0; 16];
    if let (Some(high), Some(low)) = (seeded(), seeded()) {
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        return uuid::Builder::from_random_bytes(bytes).into_uuid();
    }
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
