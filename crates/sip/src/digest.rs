//! Digest authentication as client and server (RFC 3261 §22, RFC 7616, RFC 8760): MD5 and SHA-256, quality `auth`.
//!
//! [`DigestServer`] hands out signed nonces, so that it keeps nothing about strangers; only nonces that were used with a
//! right answer are remembered, to see replays. [`DigestClient`] answers the strongest challenge it understands.
//! Hashing a whole body (`auth-int`) is not offered and not answered.

mod client;
mod params;
mod server;

use md5::{Digest, Md5};
use sha2::Sha256;

pub use client::{DigestClient, DigestError};
pub use server::{Credentials, DigestServer, NONCE_LIFETIME, NONCES_MAX, UserSecrets, Verdict};

/// A hash a challenge may ask for, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    /// The name in the `algorithm` parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// Reads the `algorithm` parameter; without one it is MD5 (RFC 7616 §3.3).
    fn parse(name: Option<&[u8]>) -> Option<Algorithm> {
        let Some(name) = name else { return Some(Algorithm::Md5) };
        [Algorithm::Md5, Algorithm::Sha256]
            .into_iter()
            .find(|known| name.eq_ignore_ascii_case(known.as_str().as_bytes()))
    }

    /// The hash of the parts joined by colons, in lower-case hexadecimal digits.
    fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Algorithm::Md5 => hex(&joined_hash::<Md5>(parts)),
            Algorithm::Sha256 => hex(&joined_hash::<Sha256>(parts)),
        }
    }
}

/// What a directory keeps instead of a password: the hash of user name, realm and password, in lower-case hexadecimal
/// digits (RFC 7616 §3.4.2).
pub fn ha1(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()])
}

/// With `qop=auth`: the nonce count as it was written, and the client's nonce.
#[derive(Debug, Clone, Copy)]
struct Quality<'a> {
    nonce_count: &'a [u8],
    client_nonce: &'a [u8],
}

/// The answer to a challenge (RFC 7616 §3.4.1); without quality that of RFC 2069.
fn answer(
    algorithm: Algorithm,
    ha1: &str,
    nonce: &[u8],
    quality: Option<Quality<'_>>,
    method: &str,
    uri: &[u8],
) -> String {
    let ha2 = algorithm.hash(&[method.as_bytes(), uri]);
    match quality {
        Some(Quality { nonce_count, client_nonce }) => {
            algorithm.hash(&[ha1.as_bytes(), nonce, nonce_count, client_nonce, b"auth", ha2.as_bytes()])
        }
        None => algorithm.hash(&[ha1.as_bytes(), nonce, ha2.as_bytes()]),
    }
}

fn joined_hash<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hash.finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests;
