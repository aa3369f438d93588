//! Bodies of Graph requests: whatever is read is written so that it is read the same again.

use std::fmt::Debug;

use graph::{
    Call, Form, InviteParticipantsOperation, InviteRequest, OnlineMeeting, Participant, ResultInfo, Wire, parse,
};
use serde_json::Value;

/// Reads a body as each of the types that clients send.
///
/// # Panics
/// When what was read is not what is read from what was written of it.
pub fn run(bytes: &[u8]) {
    read::<InviteRequest>(bytes);
    read::<Call>(bytes);
    read::<OnlineMeeting>(bytes);
    read::<Participant>(bytes);
    read::<Vec<Participant>>(bytes);
    read::<InviteParticipantsOperation>(bytes);
    read::<ResultInfo>(bytes);
}

fn read<T: Wire + PartialEq + Debug>(bytes: &[u8]) {
    let read = match parse::<T>(bytes) {
        Ok(Ok(read)) => read,
        Ok(Err(bad)) | Err(bad) => {
            assert!(!bad.to_string().is_empty(), "a client is told what is wrong");
            return;
        }
    };
    for form in [Form::reply(true), Form::notice(true)] {
        let written: Value = read.write(form);
        let again = T::read(&written).unwrap_or_else(|bad| panic!("{bad} in {written}"));
        assert_eq!(again, read, "{written}");
    }
    // What only beta has is left out of v1.0, which is no reason to fail.
    let _ = read.write(Form::reply(false));
}
