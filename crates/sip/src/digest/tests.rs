//! The examples of the RFCs, and client and server against each other.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::*;
use crate::message::{HeaderName, Method, Request, Response, Uri};

const REALM: &str = "contoso.example";
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn secrets(user: &str, password: &str) -> UserSecrets {
    UserSecrets {
        md5: ha1(Algorithm::Md5, user, REALM, password),
        sha256: ha1(Algorithm::Sha256, user, REALM, password),
    }
}

fn register() -> Request {
    Request::new(Method::Register, "sip:contoso.example".parse::<Uri>().unwrap())
}

fn challenge(values: &[&str]) -> Response {
    values.iter().fold(Response::new(401, ""), |response, value| response.with(HeaderName::WwwAuthenticate, *value))
}

/// A client, a server, and a clock to turn.
struct Pair {
    now: Instant,
    server: DigestServer,
    client: DigestClient,
}

impl Pair {
    fn new(password: &str) -> Pair {
        let now = some_instant();
        let server = DigestServer::new(REALM, [7; 32], now);
        Pair { now, server, client: DigestClient::new("front-desk", password) }
    }

    fn challenged(&mut self, request: &mut Request, stale: bool) -> Result<(), DigestError> {
        let values = self.server.challenges(self.now, PEER, stale);
        let response = values
            .into_iter()
            .fold(Response::new(401, ""), |response, value| response.with(HeaderName::WwwAuthenticate, value));
        self.client.answer(&response, request, "c1")
    }

    fn check(&mut self, request: &Request) -> Option<Verdict> {
        let credentials = Credentials::find(&request.headers, &HeaderName::Authorization, REALM)?;
        assert_eq!(credentials.username(), "front-desk");
        Some(self.server.check(self.now, PEER, &credentials, &request.method, Some(&secrets("front-desk", "right"))))
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do to turn a clock from")]
fn some_instant() -> Instant {
    Instant::now()
}

#[test]
fn the_examples_of_rfc_7616() {
    let nonce = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    let quality = Quality { nonce_count: b"00000001", client_nonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ" };
    for (algorithm, expected) in [
        (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ] {
        let ha1 = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
        assert_eq!(answer(algorithm, &ha1, nonce, Some(quality), "GET", b"/dir/index.html"), expected);
    }
}

#[test]
fn the_examples_of_rfc_2617_and_rfc_2069() {
    let nonce = b"dcd98b7102dd2f0e8b11d0f600bfb0c093";
    let quality = Quality { nonce_count: b"00000001", client_nonce: b"0a4f113b" };
    let secret = ha1(Algorithm::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
    assert_eq!(secret, "939e7578ed9e3c518a452acee763bce9");
    assert_eq!(
        answer(Algorithm::Md5, &secret, nonce, Some(quality), "GET", b"/dir/index.html"),
        "6629fae49393a05397450978507c4ef1"
    );
    // As corrected by its erratum.
    let secret = ha1(Algorithm::Md5, "Mufasa", "testrealm@host.com", "CircleOfLife");
    assert_eq!(
        answer(Algorithm::Md5, &secret, nonce, None, "GET", b"/dir/index.html"),
        "1949323746fe6a43ef61f9606e7febea"
    );
}

#[test]
fn a_right_password_is_accepted_and_a_wrong_one_is_not() {
    let mut pair = Pair::new("right");
    let mut request = register();
    assert_eq!(pair.check(&request), None);
    pair.challenged(&mut request, false).unwrap();
    let value = request.headers.get_str(HeaderName::Authorization).unwrap();
    assert!(value.contains("algorithm=SHA-256") && value.contains("nc=00000001"), "{value}");
    assert_eq!(pair.check(&request), Some(Verdict::Accepted));

    let mut pair = Pair::new("wrong");
    let mut request = register();
    pair.challenged(&mut request, false).unwrap();
    assert_eq!(pair.check(&request), Some(Verdict::Wrong));
    assert_eq!(pair.challenged(&mut request, false), Err(DigestError::Rejected));
    // After giving up, it may be tried from the beginning.
    assert_eq!(pair.challenged(&mut register(), false), Ok(()));
}

#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    let mut pair = Pair::new("right");
    let mut request = register();
    pair.challenged(&mut request, false).unwrap();
    let credentials = Credentials::find(&request.headers, &HeaderName::Authorization, REALM).unwrap();
    assert_eq!(pair.server.check(pair.now, PEER, &credentials, &Method::Register, None), Verdict::Wrong);
}

#[test]
fn answers_work_once_each() {
    let mut pair = Pair::new("right");
    let mut first = register();
    pair.challenged(&mut first, false).unwrap();
    let mut second = register();
    pair.client.apply(&mut second, "c2");
    let mut third = register();
    pair.client.apply(&mut third, "c3");
    // Overtaking is fine, repeating is not.
    assert_eq!(pair.check(&third), Some(Verdict::Accepted));
    assert_eq!(pair.check(&first), Some(Verdict::Accepted));
    assert_eq!(pair.check(&second), Some(Verdict::Accepted));
    for request in [&first, &second, &third] {
        assert_eq!(pair.check(request), Some(Verdict::Stale));
    }
    // An answer is for its method.
    let mut other = register();
    pair.client.apply(&mut other, "c4");
    other.method = Method::Invite;
    assert_eq!(pair.check(&other), Some(Verdict::Wrong));
}

#[test]
fn nonces_grow_old() {
    let mut pair = Pair::new("right");
    let mut request = register();
    pair.challenged(&mut request, false).unwrap();
    pair.now += NONCE_LIFETIME + Duration::from_millis(1);
    assert_eq!(pair.check(&request), Some(Verdict::Stale));
    pair.challenged(&mut request, true).unwrap();
    assert_eq!(pair.check(&request), Some(Verdict::Accepted));
}

#[test]
fn nonces_of_others_are_stale() {
    let mut pair = Pair::new("right");
    let mut request = register();
    pair.challenged(&mut request, false).unwrap();
    pair.server = DigestServer::new(REALM, [8; 32], pair.now);
    assert_eq!(pair.check(&request), Some(Verdict::Stale));
}

#[test]
fn a_nonce_is_for_the_one_who_asked() {
    let elsewhere: IpAddr = Ipv4Addr::new(192, 0, 2, 2).into();
    for password in ["right", "wrong"] {
        let mut pair = Pair::new(password);
        let mut request = register();
        pair.challenged(&mut request, false).unwrap();
        let credentials = Credentials::find(&request.headers, &HeaderName::Authorization, REALM).unwrap();
        let secrets = secrets("front-desk", "right");
        // Right or wrong, the answer is the same: nothing is learnt, and nothing is held against that address.
        let verdict = pair.server.check(pair.now, elsewhere, &credentials, &Method::Register, Some(&secrets));
        assert_eq!(verdict, Verdict::Stale);
    }
}

#[test]
fn a_stale_nonce_tells_nothing_about_the_password() {
    let mut pair = Pair::new("wrong");
    let mut request = register();
    pair.challenged(&mut request, false).unwrap();
    pair.now += NONCE_LIFETIME + Duration::from_millis(1);
    assert_eq!(pair.check(&request), Some(Verdict::Stale));
}

#[test]
fn two_requests_may_be_challenged_side_by_side() {
    let mut client = DigestClient::new("bob", "zanzibar");
    let asked = challenge(&["Digest realm=\"a\", nonce=\"n1\", qop=\"auth\""]);
    let (mut first, mut second) = (register(), register());
    client.answer(&asked, &mut first, "c").unwrap();
    client.answer(&asked, &mut second, "c").unwrap();
    assert!(second.headers.get_str(HeaderName::Authorization).unwrap().contains("nc=00000002"));
    // A nonce that was refused after it had worked is not a wrong password, unless the server insists.
    let other = challenge(&["Digest realm=\"a\", nonce=\"n2\", qop=\"auth\""]);
    client.answer(&other, &mut second, "c").unwrap();
    assert_eq!(client.answer(&other, &mut second, "c"), Err(DigestError::Rejected));
}

#[test]
fn a_server_that_only_says_stale_is_given_up() {
    let mut pair = Pair::new("right");
    let mut request = register();
    pair.challenged(&mut request, false).unwrap();
    let outcomes: Vec<_> = (0..4).map(|_| pair.challenged(&mut request, true)).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Ok(()), Err(DigestError::Rejected)]);
}

#[test]
fn memory_of_nonces_is_bounded() {
    let mut pair = Pair::new("right");
    let mut first = register();
    pair.challenged(&mut first, false).unwrap();
    assert_eq!(pair.check(&first), Some(Verdict::Accepted));
    for _ in 0..NONCES_MAX {
        let challenge = String::from_utf8(pair.server.challenges(pair.now, PEER, false).remove(0)).unwrap();
        let nonce = challenge.split('"').nth(3).unwrap();
        let id = pair.server.young_nonce(pair.now, nonce.as_bytes(), PEER).unwrap();
        assert!(pair.server.take(pair.now, id, 1));
    }
    // The first nonce was forgotten; a repetition is still not accepted.
    assert_eq!(pair.check(&first), Some(Verdict::Stale));
}

#[test]
fn the_strongest_known_challenge_is_answered() {
    let mut client = DigestClient::new("bob \"b\"", "zanzibar");
    let mut request = register();
    let response = challenge(&[
        "Basic realm=\"a\"",
        "Digest realm=\"a\", nonce=\"n512\", algorithm=SHA-512-256, qop=\"auth\"",
        "Digest realm=\"a\", nonce=\"n5\", qop=\"auth\", Digest realm=\"a\",nonce=\"n256\",opaque=\"o,p\",algorithm=SHA-256,qop=\"auth-int, auth\"",
        "Digest realm=\"b\", nonce=\"int\", qop=\"auth-int\"",
    ])
    .with(HeaderName::ProxyAuthenticate, "Digest realm=\"p\", nonce=\"np\", algorithm=md5");
    client.answer(&response, &mut request, "cn").unwrap();
    let own: Vec<_> = request.headers.get_all(HeaderName::Authorization).collect();
    assert_eq!(own.len(), 1);
    let own = String::from_utf8(own[0].to_vec()).unwrap();
    assert!(
        own.starts_with("Digest username=\"bob \\\"b\\\"\", realm=\"a\", nonce=\"n256\", uri=\"sip:contoso.example\""),
        "{own}"
    );
    assert!(own.contains("opaque=\"o,p\"") && own.ends_with("qop=auth, nc=00000001, algorithm=SHA-256"), "{own}");
    let proxy = request.headers.get_str(HeaderName::ProxyAuthorization).unwrap();
    assert!(!proxy.contains("nc=") && proxy.contains("algorithm=MD5"), "{proxy}");
}

#[test]
fn nothing_usable_is_an_error() {
    let mut client = DigestClient::new("bob", "zanzibar");
    for value in [
        "Basic realm=\"a\"",
        "Digest realm=\"a\"",
        "Digest realm=\"x",
        "",
        "Digest realm=\"a\",nonce=\"n\",algorithm=X",
    ] {
        assert_eq!(
            client.answer(&challenge(&[value]), &mut register(), "c"),
            Err(DigestError::NoUsableChallenge),
            "{value}"
        );
    }
}

#[test]
fn the_next_nonce_is_used() {
    let mut client = DigestClient::new("bob", "zanzibar");
    let mut request = register();
    client.answer(&challenge(&["Digest realm=\"a\", nonce=\"n1\", qop=\"auth\""]), &mut request, "c").unwrap();
    client.accepted(&Response::new(200, "").with(HeaderName::AuthenticationInfo, "nextnonce=\"n2\", qop=auth"));
    client.apply(&mut request, "c");
    let value = request.headers.get_str(HeaderName::Authorization).unwrap();
    assert!(value.contains("nonce=\"n2\"") && value.contains("nc=00000001"), "{value}");
}

#[test]
fn garbage_is_challenged_and_nothing_worse() {
    let mut pair = Pair::new("right");
    for value in [
        "Digest",
        "Digest realm=\"contoso.example\"",
        "Digest username=\"front-desk\", realm=\"contoso.example\"",
        "Digest username=\"front-desk\", realm=\"contoso.example\", nonce=\"\", uri=\"\", response=\"\"",
        "Digest username=\"front-desk\", realm=\"contoso.example\", nonce=\"x\", uri=\"x\", response=\"x\", qop=auth, nc=zz, cnonce=",
        "NoOneKnowsThisScheme opaque-data=here",
    ] {
        let request = register().with(HeaderName::Authorization, value);
        assert!(matches!(pair.check(&request), None | Some(Verdict::Stale | Verdict::Unusable)), "{value}");
    }
}
