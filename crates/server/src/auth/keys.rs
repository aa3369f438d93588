//! The keys that tokens are signed with: made, kept in the store, published, replaced.
//!
//! Access tokens and notification tokens have keys of their own, so that neither can be taken for the other. A new key
//! is published a day before it signs, because verifiers cache key sets that long; an old one stays published until the
//! last token it signed has expired.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{self, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use control::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use store::{Purpose, SigningKey, Store, StoreError};
use thiserror::Error;

/// A key is replaced after that long.
const ROTATE_AFTER: Duration = Duration::from_hours(90 * 24);

/// From publishing a key to signing with it: bots cache key sets for 24 hours and look for an unknown key at most once
/// an hour.
const PUBLISHED_BEFORE: Duration = Duration::from_hours(25);

/// From the last token of a key to withdrawing it: longer than any token lives, with skew.
const PUBLISHED_AFTER: Duration = Duration::from_hours(3);

#[derive(Debug, Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a signing key could not be made: {0}")]
    Made(String),
    #[error("signing key {kid} in the store cannot be read: {why}")]
    Unreadable { kid: String, why: String },
}

/// Every key that is published.
#[derive(Debug)]
pub struct Keys {
    access: ArcSwap<Ring>,
    notification: ArcSwap<Ring>,
}

/// The keys of one purpose, oldest first; never empty.
#[derive(Debug, Default)]
struct Ring(Vec<Arc<Key>>);

impl Keys {
    /// Reads the keys from the store, and makes those that are missing.
    pub async fn open(store: &dyn Store, now: Timestamp) -> Result<Self, KeyError> {
        let keys = Self { access: ArcSwap::default(), notification: ArcSwap::default() };
        keys.tend(store, now).await?;
        Ok(keys)
    }

    /// Makes, replaces and withdraws keys whose time has come. Called at start and every hour.
    pub async fn tend(&self, store: &dyn Store, now: Timestamp) -> Result<(), KeyError> {
        for (purpose, ring) in [(Purpose::Access, &self.access), (Purpose::Notification, &self.notification)] {
            let mut rows = store.keys(purpose).await?;
            let newest = rows.iter().map(|row| row.created).max();
            if newest.is_none_or(|newest| now.since(newest) >= ROTATE_AFTER) {
                rows.push(make(store, purpose, now).await?);
            }
            let mut keys = Vec::new();
            for (row, retire_at) in rows.iter().zip(retirements(&rows)) {
                if row.retire_at.is_none()
                    && let Some(at) = retire_at
                {
                    store.retire_key(&row.kid, at).await?;
                }
                if row.retire_at.or(retire_at).is_none_or(|at| now < at) {
                    keys.push(Arc::new(Key::read(row)?));
                }
            }
            ring.store(Arc::new(Ring(keys)));
        }
        store.forget_keys(now).await?;
        Ok(())
    }

    /// The key that signs.
    pub(super) fn signing(&self, purpose: Purpose, now: Timestamp) -> Arc<Key> {
        let ring = self.ring(purpose).load();
        let known = ring.0.iter().rev().find(|key| now.since(key.created) >= PUBLISHED_BEFORE);
        // The first key of all signs at once: nobody can have cached a set without it.
        Arc::clone(known.or_else(|| ring.0.first()).expect("`open` has made a key for every purpose"))
    }

    pub(super) fn find(&self, purpose: Purpose, kid: &str) -> Option<Arc<Key>> {
        self.ring(purpose).load().0.iter().find(|key| key.kid == kid).cloned()
    }

    /// The key set of a purpose, as published.
    pub fn published(&self, purpose: Purpose) -> Value {
        json!({"keys": self.ring(purpose).load().0.iter().map(|key| key.published()).collect::<Vec<_>>()})
    }

    fn ring(&self, purpose: Purpose) -> &ArcSwap<Ring> {
        match purpose {
            Purpose::Access => &self.access,
            Purpose::Notification => &self.notification,
        }
    }
}

/// When each key stops being published: some time after the next one begins to sign.
fn retirements(rows: &[SigningKey]) -> Vec<Option<Timestamp>> {
    let next = rows.iter().skip(1).map(|next| Some(next.created + PUBLISHED_BEFORE + PUBLISHED_AFTER));
    next.chain([None]).take(rows.len()).collect()
}

async fn make(store: &dyn Store, purpose: Purpose, now: Timestamp) -> Result<SigningKey, KeyError> {
    let private = tokio::task::spawn_blocking(move || generate(purpose))
        .await
        .map_err(|error| KeyError::Made(error.to_string()))?
        .map_err(|error| KeyError::Made(error.to_string()))?;
    let kid = super::fresh_id().simple().to_string();
    let key = SigningKey { kid, purpose, private: private.into_bytes(), created: now, retire_at: None };
    store.add_key(key.clone()).await?;
    Ok(key)
}

/// RSA 2048 with a certificate for it, both as PEM: .NET reads keys from certificates (contract 2.6).
fn generate(purpose: Purpose) -> Result<String, rcgen::Error> {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(
        rcgen::DnType::CommonName,
        match purpose {
            Purpose::Access => "convoke access tokens",
            Purpose::Notification => "convoke notification tokens",
        },
    );
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2120, 1, 1);
    let certificate = params.self_signed(&pair)?;
    Ok(format!("{}{}", pair.serialize_pem(), certificate.pem()))
}

/// One RSA key, ready for use.
pub(super) struct Key {
    pub(super) kid: String,
    /// The certificate's thumbprint, by which .NET knows a key.
    pub(super) x5t: String,
    created: Timestamp,
    pair: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Key {
    fn read(row: &SigningKey) -> Result<Self, KeyError> {
        let unreadable = |why: String| KeyError::Unreadable { kid: row.kid.clone(), why };
        let private =
            PrivatePkcs8KeyDer::from_pem_slice(&row.private).map_err(|error| unreadable(error.to_string()))?;
        let pair = KeyPair::from_pkcs8(private.secret_pkcs8_der()).map_err(|error| unreadable(error.to_string()))?;
        let certificate =
            CertificateDer::from_pem_slice(&row.private).map_err(|error| unreadable(error.to_string()))?;
        let x5t = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate));
        Ok(Self { kid: row.kid.clone(), x5t, created: row.created, pair, certificate })
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature)
            .expect("the buffer is as long as the modulus, and PKCS #1 signatures need nothing else");
        signature
    }

    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref());
        key.verify(text, signature).is_ok()
    }

    fn published(&self) -> Value {
        let public = self.pair.public_key();
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "x5t": self.x5t,
            "x5t#S256": URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.certificate)),
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
            "x5c": [STANDARD.encode(&self.certificate)],
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("created", &self.created).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Keys {
    /// One key of each purpose, without a store.
    pub(super) fn for_tests() -> Self {
        let ring = |purpose| {
            let private = generate(purpose).unwrap().into_bytes();
            let kid = super::fresh_id().to_string();
            let row = SigningKey { kid, purpose, private, created: Timestamp(0), retire_at: None };
            ArcSwap::from_pointee(Ring(vec![Arc::new(Key::read(&row).unwrap())]))
        };
        Self { access: ring(Purpose::Access), notification: ring(Purpose::Notification) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kid: &str, created: Timestamp) -> SigningKey {
        let private = generate(Purpose::Access).unwrap().into_bytes();
        SigningKey { kid: kid.to_owned(), purpose: Purpose::Access, private, created, retire_at: None }
    }

    #[test]
    fn a_new_key_is_published_before_it_signs_and_an_old_one_after() {
        let made = Timestamp(0) + ROTATE_AFTER;
        let rows = [row("old", Timestamp(0)), row("new", made)];
        assert_eq!(retirements(&rows), [Some(made + PUBLISHED_BEFORE + PUBLISHED_AFTER), None]);

        let ring = Ring(rows.iter().map(|row| Arc::new(Key::read(row).unwrap())).collect());
        let keys = Keys { access: ArcSwap::from_pointee(ring), notification: ArcSwap::default() };
        assert_eq!(keys.signing(Purpose::Access, made).kid, "old");
        assert_eq!(keys.signing(Purpose::Access, made + PUBLISHED_BEFORE).kid, "new");
        assert_eq!(keys.published(Purpose::Access)["keys"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_signature_holds_for_its_text_only() {
        let key = Key::read(&row("k", Timestamp(0))).unwrap();
        let signature = key.sign(b"text");
        assert!(key.verifies(b"text", &signature));
        assert!(!key.verifies(b"tex", &signature));
        let published = key.published();
        assert_eq!(published["e"], "AQAB");
        for member in ["kid", "x5t", "n", "x5c"] {
            assert!(!published[member].is_null(), "{member}");
        }
    }
}
