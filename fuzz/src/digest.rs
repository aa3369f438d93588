//! Digest authentication: a challenge as a client reads it, and credentials as a server does.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Instant;

use sip::digest::{Algorithm, Credentials, DigestClient, DigestServer, UserSecrets, Verdict, ha1};
use sip::message::{HeaderName, Method, Request, Response, Uri};

const REALM: &str = "convoke";

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Reads a challenge and, after a zero byte, credentials; more challenges and credentials may follow.
///
/// # Panics
/// When credentials of ours cannot be found again, or somebody gets in who knows no password.
pub fn run(bytes: &[u8]) {
    static SECRETS: OnceLock<UserSecrets> = OnceLock::new();
    let secrets = SECRETS.get_or_init(|| UserSecrets {
        md5: ha1(Algorithm::Md5, "alice", REALM, "unguessable"),
        sha256: ha1(Algorithm::Sha256, "alice", REALM, "unguessable"),
    });
    let now = Instant::now();
    let mut client = DigestClient::new("alice", "wonderland");
    let mut server = DigestServer::new(REALM, [7; 32], now);
    server.challenges(now, PEER, false);
    let uri: Uri = "sip:10.0.0.1".parse().expect("a URI");
    let mut request = Request::new(Method::Register, uri);
    let mut lines = bytes.split(|byte| *byte == 0).take(8);
    while let Some(challenge) = lines.next() {
        let response = Response::new(401, "Unauthorized").with(HeaderName::WwwAuthenticate, challenge);
        if client.answer(&response, &mut request, "c0ffee").is_ok() {
            assert!(request.headers.get(HeaderName::Authorization).is_some(), "an answer is sent");
            client.accepted(&Response::new(200, "OK").with(HeaderName::AuthenticationInfo, challenge));
        }
        let Some(credentials) = lines.next() else { break };
        let theirs = Request::new(Method::Register, request.uri.clone()).with(HeaderName::Authorization, credentials);
        if let Some(credentials) = Credentials::find(&theirs.headers, &HeaderName::Authorization, REALM) {
            let _ = credentials.username();
            for known in [None, Some(secrets)] {
                assert_ne!(server.check(now, PEER, &credentials, &Method::Register, known), Verdict::Accepted);
            }
        }
    }
}
