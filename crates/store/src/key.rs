//! Keys that tokens are signed with.

use std::fmt;

use control::Timestamp;

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Tokens that clients show to us.
    Access,
    /// Tokens that we show to bots.
    Notification,
}

#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    pub kid: String,
    pub purpose: Purpose,
    /// The private key, in whatever encoding its owner chose.
    pub private: Vec<u8>,
    pub created: Timestamp,
    /// When it stops being published, once that is known.
    pub retire_at: Option<Timestamp>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("purpose", &self.purpose)
            .field("created", &self.created)
            .field("retire_at", &self.retire_at)
            .finish_non_exhaustive()
    }
}
