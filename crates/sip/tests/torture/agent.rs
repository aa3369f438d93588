//! What an agent, with a registrar and open for calls, makes of each message of the corpus.

use std::time::Instant;

use sip::agent::{Agent, AgentConfig, Flow, Input, Output, RegistrarConfig, Report, Transport};

/// What an agent answers to a message, or what it reports.
fn outcome(bytes: &[u8]) -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
    let now = Instant::now();
    let mut config = AgentConfig::new("convoke-test/1", [1; 32], [2; 32]);
    config.registrar = Some(RegistrarConfig::default());
    let mut agent = Agent::new(config, now);
    let address = "192.0.2.1:5060".parse().expect("an address");
    agent.handle(
        now,
        Input::Listening { flow: Flow(1), transport: Transport::Udp, local: address, advertised: address },
    );
    let source = "192.0.2.99:5070".parse().expect("an address");
    agent.handle(now, Input::Datagram { flow: Flow(1), source, bytes });
    let mut outcome = Vec::new();
    while let Some(output) = agent.poll_output() {
        match output {
            Output::Transmit { bytes, .. } => {
                let status = bytes.strip_prefix(b"SIP/2.0 ").and_then(|rest| rest.get(..3)).unwrap_or_default();
                outcome.push(String::from_utf8_lossy(status).into_owned());
            }
            Output::Report(Report::Incoming(_)) => outcome.push("incoming".to_owned()),
            other => outcome.push(format!("{other:?}")),
        }
    }
    outcome
}

/// The first line of the answer to each, or what is reported of it; nothing where silence is due.
const OUTCOMES: [(&str, &[&str]); 49] = [
    // A To tag of a dialog nobody has.
    ("wsinv", &["481"]),
    ("intmeth", &["501"]),
    ("esc01", &["100", "incoming"]),
    ("escnull", &["401"]),
    ("esc02", &["501"]),
    ("lwsdisp", &["200"]),
    ("longreq", &["100", "incoming"]),
    ("dblreq", &["401"]),
    ("semiuri", &["200"]),
    ("transports", &["200"]),
    ("mpart01", &["405"]),
    ("unreason", &[]),
    ("noreason", &[]),
    ("badinv01", &["400"]),
    ("clerr", &["400"]),
    ("ncl", &["400"]),
    ("scalar02", &["400"]),
    ("scalarlg", &[]),
    ("quotbal", &["400"]),
    ("ltgtruri", &["400"]),
    ("lwsruri", &["400"]),
    ("lwsstart", &["400"]),
    ("trws", &["400"]),
    ("escruri", &["400"]),
    ("baddate", &["100", "incoming"]),
    ("regbadct", &["400"]),
    ("badaspec", &["400"]),
    ("baddn", &["400"]),
    ("badvers", &["505"]),
    ("mismatch01", &["400"]),
    ("mismatch02", &["501"]),
    ("bigcode", &[]),
    ("badbranch", &["200"]),
    ("insuf", &["400"]),
    ("unkscm", &["416"]),
    ("novelsc", &["416"]),
    ("unksm2", &["401"]),
    ("bext01", &["420"]),
    ("invut", &["415"]),
    ("regaut01", &["401"]),
    ("multi01", &["400"]),
    ("mcl01", &["400"]),
    ("bcast", &[]),
    ("zeromf", &["483"]),
    ("cparam01", &["401"]),
    ("cparam02", &["401"]),
    ("regescrt", &["401"]),
    ("sdp01", &["100", "incoming"]),
    ("inv2543", &["100", "incoming"]),
];

#[test]
fn each_message_is_answered_as_the_rfc_asks() {
    let cases = super::cases();
    assert_eq!(cases.len(), OUTCOMES.len());
    for case in cases {
        let (_, expected) = OUTCOMES.iter().find(|(name, _)| *name == case.name).expect("an outcome");
        assert_eq!(&outcome(&case.bytes), expected, "{}", case.name);
    }
}
