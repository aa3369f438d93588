//! The side that challenges and checks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::params::AuthParams;
use super::{Algorithm, Quality, answer};
use crate::message::{HeaderName, Headers, Method, scan};

/// How long a nonce can be used. A phone that comes back later gets a new one and need not ask its user.
pub const NONCE_LIFETIME: Duration = Duration::from_mins(5);

/// Most nonces remembered with their counts. When more are in use, the oldest become stale early.
pub const NONCES_MAX: usize = 65_536;

/// Most credentials of one request that are looked at: one for each realm on the way.
const CREDENTIALS_MAX: usize = 8;

/// What a directory knows of a user: [`super::ha1`] with each algorithm.
#[derive(Clone, PartialEq, Eq)]
pub struct UserSecrets {
    pub md5: String,
    pub sha256: String,
}

impl std::fmt::Debug for UserSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserSecrets(…)")
    }
}

/// The credentials of a request for one realm.
#[derive(Clone)]
pub struct Credentials {
    username: String,
    params: AuthParams,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Finds the credentials for a realm in `Authorization` or `Proxy-Authorization`.
    pub fn find(headers: &Headers, name: &HeaderName, realm: &str) -> Option<Credentials> {
        let lines = headers.get_all(name).take(CREDENTIALS_MAX);
        let mut all = lines.flat_map(AuthParams::parse_all);
        let params = all.find(|params| params.is_digest() && params.get("realm") == Some(realm.as_bytes()))?;
        let mut quoted = vec![b'"'];
        quoted.extend(params.get("username")?);
        quoted.push(b'"');
        let username = String::from_utf8(scan::unquote(&quoted)).ok()?;
        Some(Credentials { username, params })
    }

    /// Who claims to be asking.
    pub fn username(&self) -> &str {
        &self.username
    }
}

/// What came of checking credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are who they say.
    Accepted,
    /// The nonce is too old, used up, or not one that we gave to this peer: challenge again with `stale=true`. Whether
    /// they know the password is not said, and not looked at: nobody can guess with a nonce that he did not ask for.
    Stale,
    /// They do not know the password, or there is no such user. The nonce is good, so they do receive what is sent to
    /// their address.
    Wrong,
    /// Not an answer that can be checked: parameters are missing, or the algorithm was not offered. Challenge again.
    Unusable,
}

/// Challenges and checks for one realm.
pub struct DigestServer {
    realm: String,
    secret: [u8; 32],
    algorithms: Vec<Algorithm>,
    started: Instant,
    issued: u64,
    /// By nonce, oldest first.
    used: BTreeMap<NonceId, Counts>,
    /// Nonces up to this one are stale, because their counts were forgotten.
    forgotten: Option<NonceId>,
}

impl std::fmt::Debug for DigestServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DigestServer")
            .field("realm", &self.realm)
            .field("used", &self.used.len())
            .finish_non_exhaustive()
    }
}

/// When a nonce was made, in milliseconds after the start, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NonceId {
    made_ms: u64,
    number: u64,
}

/// Which nonce counts have been seen: the highest, and a window of those before it, because datagrams overtake each
/// other.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    highest: u32,
    /// Bit n: `highest - n` has been seen.
    window: u64,
}

impl Counts {
    /// Whether the count is new; it no longer is afterwards.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            self.window = self.window.checked_shl(count - self.highest).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let Some(bit) = 1_u64.checked_shl(self.highest - count) else { return false };
        let is_new = self.window & bit == 0;
        self.window |= bit;
        is_new
    }
}

impl DigestServer {
    /// A server for a realm. The secret signs nonces: random, and the same for as long as they should stay good.
    pub fn new(realm: &str, secret: [u8; 32], now: Instant) -> DigestServer {
        DigestServer {
            realm: realm.to_owned(),
            secret,
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            started: now,
            issued: 0,
            used: BTreeMap::new(),
            forgotten: None,
        }
    }

    /// Offers only these algorithms, in this order; the strongest first, as RFC 8760 wants it, unless phones in the
    /// field give up at an algorithm they do not know. Credentials are checked by whichever they name.
    #[must_use]
    pub fn offering(mut self, algorithms: &[Algorithm]) -> DigestServer {
        self.algorithms = algorithms.to_vec();
        self
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The values of `WWW-Authenticate` or `Proxy-Authenticate`, one line each, strongest first (RFC 8760 §2.4).
    /// The nonce is good only for answers from `peer`.
    pub fn challenges(&mut self, now: Instant, peer: IpAddr, stale: bool) -> Vec<Vec<u8>> {
        self.issued += 1;
        let nonce = self.nonce(NonceId { made_ms: self.millis(now), number: self.issued }, peer);
        let stale = if stale { ", stale=true" } else { "" };
        let realm = scan::quote(self.realm.as_bytes());
        self.algorithms
            .iter()
            .map(|algorithm| {
                let mut value = b"Digest realm=".to_vec();
                value.extend_from_slice(&realm);
                let rest = format!(", nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}", algorithm.as_str());
                value.extend(rest.into_bytes());
                value
            })
            .collect()
    }

    /// Checks credentials for a request with this method. For a user nobody knows, pass no secrets: it takes the same
    /// time and has the same outcome as a wrong password.
    ///
    /// The `uri` of the credentials is not held against the Request-URI, which proxies may rewrite (RFC 3261 §22.4);
    /// the nonce count keeps an overheard answer from being used for anything else.
    pub fn check(
        &mut self,
        now: Instant,
        peer: IpAddr,
        credentials: &Credentials,
        method: &Method,
        secrets: Option<&UserSecrets>,
    ) -> Verdict {
        let Some(given) = Given::read(&credentials.params, &self.algorithms) else { return Verdict::Unusable };
        // RFC 7616 §3.3: stale says that the nonce is invalid, and nothing else.
        let Some(nonce) = self.young_nonce(now, given.nonce, peer) else { return Verdict::Stale };
        let unknown = "0".repeat(64);
        let ha1 = match (secrets, given.algorithm) {
            (Some(secrets), Algorithm::Md5) => &secrets.md5,
            (Some(secrets), Algorithm::Sha256) => &secrets.sha256,
            (None, _) => &unknown,
        };
        let expected = answer(given.algorithm, ha1, given.nonce, given.quality, method.as_str(), given.uri);
        let is_right = bool::from(expected.as_bytes().ct_eq(&given.response.to_ascii_lowercase()));
        if !is_right || secrets.is_none() {
            return Verdict::Wrong;
        }
        if self.take(now, nonce, given.count) { Verdict::Accepted } else { Verdict::Stale }
    }

    /// The nonce, if it is ours, for this peer, and young.
    pub(super) fn young_nonce(&self, now: Instant, nonce: &[u8], peer: IpAddr) -> Option<NonceId> {
        let id = self.read_nonce(nonce, peer)?;
        let is_old = id.made_ms < self.oldest_ms(now) || self.forgotten.is_some_and(|forgotten| id <= forgotten);
        (!is_old).then_some(id)
    }

    /// Whether the count of this nonce was not used before.
    pub(super) fn take(&mut self, now: Instant, id: NonceId, count: u32) -> bool {
        let oldest_ms = self.oldest_ms(now);
        while let Some(first) = self.used.first_entry() {
            if first.key().made_ms >= oldest_ms {
                break;
            }
            first.remove();
        }
        let is_new = self.used.entry(id).or_default().take(count);
        if self.used.len() > NONCES_MAX
            && let Some((oldest, _)) = self.used.pop_first()
        {
            self.forgotten = Some(oldest);
        }
        is_new
    }

    /// When the oldest nonce was made that is still good.
    fn oldest_ms(&self, now: Instant) -> u64 {
        self.millis(now).saturating_sub(NONCE_LIFETIME.as_millis() as u64)
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    fn nonce(&self, id: NonceId, peer: IpAddr) -> String {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend(id.made_ms.to_be_bytes());
        bytes.extend(id.number.to_be_bytes());
        let signature = self.sign(&bytes, peer);
        bytes.extend(&signature[..16]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read_nonce(&self, nonce: &[u8], peer: IpAddr) -> Option<NonceId> {
        let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (id, signature) = bytes.split_at(16);
        if !bool::from(self.sign(id, peer)[..16].ct_eq(signature)) {
            return None;
        }
        let (made_ms, number) = id.split_at(8);
        Some(NonceId {
            made_ms: u64::from_be_bytes(made_ms.try_into().ok()?),
            number: u64::from_be_bytes(number.try_into().ok()?),
        })
    }

    /// HMAC-SHA-256 (RFC 2104) with our secret, over our realm, the peer and the bytes.
    fn sign(&self, bytes: &[u8], peer: IpAddr) -> [u8; 32] {
        let peer = match peer.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut inner_pad = [0x36_u8; 64];
        let mut outer_pad = [0x5c_u8; 64];
        for (at, byte) in self.secret.iter().enumerate() {
            inner_pad[at] ^= byte;
            outer_pad[at] ^= byte;
        }
        let inner = Sha256::new()
            .chain_update(inner_pad)
            .chain_update(bytes)
            .chain_update(peer)
            .chain_update(&self.realm)
            .finalize();
        Sha256::new().chain_update(outer_pad).chain_update(inner).finalize().into()
    }
}

/// Credentials as far as they can be checked.
struct Given<'a> {
    algorithm: Algorithm,
    nonce: &'a [u8],
    uri: &'a [u8],
    response: &'a [u8],
    quality: Option<Quality<'a>>,
    /// The nonce count. An answer of the old kind has none, so its nonce is good for once.
    count: u32,
}

impl<'a> Given<'a> {
    fn read(params: &'a AuthParams, offered: &[Algorithm]) -> Option<Given<'a>> {
        let algorithm = Algorithm::parse(params.get("algorithm")).filter(|algorithm| offered.contains(algorithm))?;
        let quality = match params.get("qop") {
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => {
                Some(Quality { nonce_count: params.get("nc")?, client_nonce: params.get("cnonce")? })
            }
            Some(_) => return None,
            None => None,
        };
        let count = match quality {
            Some(Quality { nonce_count, .. }) => {
                u32::from_str_radix(std::str::from_utf8(nonce_count).ok()?, 16).ok().filter(|count| *count > 0)?
            }
            None => 1,
        };
        Some(Given {
            algorithm,
            nonce: params.get("nonce")?,
            uri: params.get("uri")?,
            response: params.get("response")?,
            quality,
            count,
        })
    }
}
