//! Tokens as text: signed and taken apart. RS256 and nothing else, whatever a header says.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::keys::Key;

/// Longer tokens are not looked at.
const TOKEN_MAX: usize = 16 * 1024;

/// `claims` as a token of this key.
pub(super) fn sign(key: &Key, claims: &Value) -> String {
    let header = json!({"alg": "RS256", "kid": key.kid, "typ": "JWT", "x5t": key.x5t});
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// A token whose signature was not looked at yet.
pub(super) struct Unverified<'a> {
    pub(super) kid: String,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Value,
}

impl<'a> Unverified<'a> {
    /// `None` for whatever is no RS256 token with a `kid`.
    pub(super) fn parse(token: &'a str) -> Option<Self> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.get("alg")?.as_str()? != "RS256" {
            return None;
        }
        Some(Self {
            kid: header.get("kid")?.as_str()?.to_owned(),
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
            claims: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?,
        })
    }

    /// The claims, if the key signed them.
    pub(super) fn verify(self, key: &Key) -> Option<Value> {
        key.verifies(self.signed.as_bytes(), &self.signature).then_some(self.claims)
    }
}
