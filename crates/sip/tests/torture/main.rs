//! The messages of RFC 4475 and of RFC 5118 and what we make of each, and what we make of broken copies of them.
//!
//! The messages are written after the descriptions in the RFCs: each has exactly the deviation that its section is about.
//! The comments say which; where an RFC leaves a choice, they say what we chose.

mod agent;
mod corpus;
mod properties;

use sip::message::{Malformed, parse_datagram};

use corpus::Verdict::{Answered, Dropped, Parses};
use corpus::{SESSION, cases, ipv6_cases};

#[test]
fn the_corpus_is_complete() {
    let names: std::collections::BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), 49);
    assert_eq!(ipv6_cases().len(), 13);
    assert_eq!(SESSION.len(), 150);
}

#[test]
fn every_message_gets_its_verdict() {
    for case in cases().into_iter().chain(ipv6_cases()) {
        let verdict = match parse_datagram(&case.bytes) {
            Ok(_) => Parses,
            Err(malformed) => match malformed.response() {
                Some(response) => Answered(response.status),
                None => Dropped,
            },
        };
        let problem = parse_datagram(&case.bytes).err();
        assert_eq!(verdict, case.verdict, "{}: {:?}", case.name, problem.as_ref().map(Malformed::problem));
    }
}
