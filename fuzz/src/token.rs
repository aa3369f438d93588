//! Tokens: whatever a client shows as one, and whatever claims one carries.
//!
//! The server's own file is compiled in, with a key that signs nothing: a signature that has to be right would keep every
//! input from what lies behind it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

#[path = "../../crates/server/src/auth/jwt.rs"]
mod jwt;

mod keys {
    //! A key that takes the end of the text for its signature.

    pub(super) struct Key {
        pub(super) kid: String,
        pub(super) x5t: String,
    }

    impl Key {
        pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
            text.iter().rev().chain(self.x5t.as_bytes()).copied().take(8).collect()
        }

        pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
            self.sign(text) == signature
        }
    }
}

/// Reads a token, or one that is made of three lines: its header, its claims and its signature, so that nobody has to find
/// out what base64 is; and signs what it is as claims.
///
/// # Panics
/// When something passes without its signature, or what was signed does not come back.
pub fn run(bytes: &[u8]) {
    let key = keys::Key { kid: "k1".to_owned(), x5t: "x".to_owned() };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    read(text, &key);
    let parts: Vec<_> = text.splitn(3, '\n').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    if parts.len() == 3 {
        read(&parts.join("."), &key);
    }
    if let Ok(claims) = serde_json::from_str::<Value>(text) {
        let token = jwt::sign(&key, &claims);
        if let Some(read) = jwt::Unverified::parse(&token) {
            assert_eq!(read.kid, "k1");
            assert!(read.verify(&key).is_some(), "what was signed passes");
            // Another signature than its own never passes.
            let forged = jwt::Unverified::parse(token.trim_end_matches(|letter| letter != '.'));
            assert!(forged.is_none_or(|forged| forged.verify(&key).is_none()));
        } else {
            assert!(token.len() > 16 * 1024, "{token}");
        }
    }
}

fn read(text: &str, key: &keys::Key) {
    let Some(token) = jwt::Unverified::parse(text) else { return };
    assert!(text.len() >= token.kid.len());
    if token.verify(key).is_some() {
        let (signed, signature) = text.rsplit_once('.').expect("a token has parts");
        assert!(!signature.is_empty() && !signed.is_empty(), "a token without a signature passes");
    }
}
