//! The side that is challenged.

use super::params::AuthParams;
use super::{Algorithm, Quality, answer};
use crate::message::{HeaderName, Request, Response, scan};

/// Most realms one client keeps challenges of.
const REALMS_MAX: usize = 16;

/// How often a server may say `stale` in a row before we stop believing it.
const STALE_MAX: u32 = 3;

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("no challenge that we can answer")]
    NoUsableChallenge,
    #[error("the user name or password is wrong")]
    Rejected,
}

/// One account, and what its servers last asked for.
#[derive(Clone)]
pub struct DigestClient {
    username: String,
    password: String,
    challenges: Vec<Challenge>,
}

impl std::fmt::Debug for DigestClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DigestClient").field("username", &self.username).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Challenge {
    is_proxy: bool,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    algorithm: Algorithm,
    /// Whether the challenge named its algorithm; some old servers do not know the parameter.
    names_algorithm: bool,
    has_quality: bool,
    /// How often the nonce was used.
    uses: u32,
    stale_in_row: u32,
}

impl DigestClient {
    /// An account that has not been challenged yet.
    pub fn new(username: &str, password: &str) -> DigestClient {
        DigestClient { username: username.to_owned(), password: password.to_owned(), challenges: Vec::new() }
    }

    /// Takes the challenges of a 401 or 407 and puts the answers into the request that got it, for sending it again with
    /// the next CSeq and another branch. `client_nonce` is fresh and random each time.
    pub fn answer(
        &mut self,
        response: &Response,
        request: &mut Request,
        client_nonce: &str,
    ) -> Result<(), DigestError> {
        let mut found = self.take(response, request, false)?;
        found |= self.take(response, request, true)?;
        if !found {
            return Err(DigestError::NoUsableChallenge);
        }
        self.apply(request, client_nonce);
        Ok(())
    }

    /// Puts credentials for every known challenge into a request, before anybody asks.
    pub fn apply(&mut self, request: &mut Request, client_nonce: &str) {
        request.headers.remove(HeaderName::Authorization);
        request.headers.remove(HeaderName::ProxyAuthorization);
        let method = request.method.as_str().to_owned();
        let uri = request.uri.to_bytes();
        for challenge in &mut self.challenges {
            challenge.uses += 1;
            let value = challenge.credentials(&self.username, &self.password, &method, &uri, client_nonce);
            let name = if challenge.is_proxy { HeaderName::ProxyAuthorization } else { HeaderName::Authorization };
            request.headers.push(name, value);
        }
    }

    /// Takes note of a response that is not a challenge: the credentials were right, and there may be a next nonce (RFC
    /// 7616 §3.5).
    pub fn accepted(&mut self, response: &Response) {
        let next = response.headers.get(HeaderName::AuthenticationInfo).and_then(|value| {
            let mut line = b"Digest ".to_vec();
            line.extend_from_slice(value);
            AuthParams::parse_all(&line).first()?.get("nextnonce").map(<[u8]>::to_vec)
        });
        for challenge in &mut self.challenges {
            challenge.stale_in_row = 0;
            if let (Some(next), false) = (&next, challenge.is_proxy) {
                challenge.nonce.clone_from(next);
                challenge.uses = 0;
            }
        }
    }

    /// Remembers the strongest challenge of each realm. Whether there was any.
    fn take(&mut self, response: &Response, request: &Request, is_proxy: bool) -> Result<bool, DigestError> {
        let (asked, answered) = if is_proxy {
            (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization)
        } else {
            (HeaderName::WwwAuthenticate, HeaderName::Authorization)
        };
        let lines = response.headers.get_all(asked).take(REALMS_MAX);
        let mut offered: Vec<(Challenge, bool)> = Vec::new();
        for params in lines.flat_map(AuthParams::parse_all) {
            let Some(challenge) = Challenge::read(&params, is_proxy) else { continue };
            let stale = params.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true"));
            match offered.iter_mut().find(|(known, _)| known.realm == challenge.realm) {
                Some(known) if known.0.algorithm < challenge.algorithm => *known = (challenge, stale),
                Some(_) => {}
                None => offered.push((challenge, stale)),
            }
        }
        let found = !offered.is_empty();
        for (challenge, stale) in offered {
            let mut all = request.headers.get_all(&answered).flat_map(AuthParams::parse_all);
            let carried = all.find(|params| params.get("realm") == Some(&challenge.realm));
            self.remember(challenge, stale, carried.as_ref())?;
        }
        Ok(found)
    }

    /// Remembers a challenge to a request that carried these credentials for its realm, or none.
    fn remember(
        &mut self,
        mut challenge: Challenge,
        stale: bool,
        carried: Option<&AuthParams>,
    ) -> Result<(), DigestError> {
        let at = self
            .challenges
            .iter()
            .position(|known| known.is_proxy == challenge.is_proxy && known.realm == challenge.realm);
        let Some(at) = at else {
            if self.challenges.len() == REALMS_MAX {
                self.challenges.remove(0);
            }
            self.challenges.push(challenge);
            return Ok(());
        };
        let known = &self.challenges[at];
        if known.nonce == challenge.nonce {
            challenge.uses = known.uses;
        }
        // The first use of a nonce that is refused without being stale means that the password is wrong. A later use may
        // have met a server that forgot the nonce and does not say so.
        let is_refused = !stale
            && carried.is_some_and(|carried| {
                let is_first = match carried.get("nc") {
                    Some(count) => count == b"00000001",
                    None => known.uses <= 1,
                };
                is_first || carried.get("nonce") == Some(&challenge.nonce)
            });
        if stale && carried.is_some() {
            challenge.stale_in_row = known.stale_in_row + 1;
        }
        if is_refused || challenge.stale_in_row > STALE_MAX {
            // Another attempt has to start from nothing.
            self.challenges.remove(at);
            return Err(DigestError::Rejected);
        }
        self.challenges[at] = challenge;
        Ok(())
    }
}

impl Challenge {
    fn read(params: &AuthParams, is_proxy: bool) -> Option<Challenge> {
        if !params.is_digest() {
            return None;
        }
        let qualities = params.get("qop");
        let has_auth =
            |qop: &[u8]| qop.split(|byte| *byte == b',').any(|one| scan::trim(one).eq_ignore_ascii_case(b"auth"));
        if qualities.is_some_and(|qop| !scan::trim(qop).is_empty() && !has_auth(qop)) {
            return None;
        }
        Some(Challenge {
            is_proxy,
            realm: params.get("realm")?.to_vec(),
            nonce: params.get("nonce")?.to_vec(),
            opaque: params.get("opaque").map(<[u8]>::to_vec),
            algorithm: Algorithm::parse(params.get("algorithm"))?,
            names_algorithm: params.get("algorithm").is_some(),
            has_quality: qualities.is_some_and(has_auth),
            uses: 0,
            stale_in_row: 0,
        })
    }

    fn credentials(&self, username: &str, password: &str, method: &str, uri: &[u8], client_nonce: &str) -> Vec<u8> {
        let ha1 = self.algorithm.hash(&[username.as_bytes(), &self.realm, password.as_bytes()]);
        let count = format!("{:08x}", self.uses);
        let quality = self
            .has_quality
            .then_some(Quality { nonce_count: count.as_bytes(), client_nonce: client_nonce.as_bytes() });
        let response = answer(self.algorithm, &ha1, &self.nonce, quality, method, uri);
        let mut out = b"Digest username=".to_vec();
        out.extend(scan::quote(username.as_bytes()));
        let mut quoted = |name: &str, value: &[u8]| {
            out.extend_from_slice(format!(", {name}=\"").as_bytes());
            out.extend_from_slice(value);
            out.push(b'"');
        };
        quoted("realm", &self.realm);
        quoted("nonce", &self.nonce);
        quoted("uri", uri);
        quoted("response", response.as_bytes());
        if let Some(opaque) = &self.opaque {
            quoted("opaque", opaque);
        }
        if self.has_quality {
            quoted("cnonce", client_nonce.as_bytes());
            out.extend_from_slice(format!(", qop=auth, nc={count}").as_bytes());
        }
        if self.names_algorithm {
            out.extend_from_slice(format!(", algorithm={}", self.algorithm.as_str()).as_bytes());
        }
        out
    }
}
