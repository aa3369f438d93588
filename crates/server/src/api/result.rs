//! Why something ended, in Graph's numbers (contract 6.3), and in words that say what to do.

use control::{Cause, Fate, Identity, Invited, Operation, Status, Who};
use graph::ResultInfo;

/// The two numbers of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    number: u16,
    subcode: u32,
    /// What follows `DiagCode`, where it is another number than the subcode.
    diag: u32,
}

fn code(number: u16, subcode: u32) -> Code {
    Code { number, subcode, diag: subcode }
}

/// The end of a call. `phone`: its far party is on the public network.
pub(super) fn of_call(cause: &Cause, phone: bool) -> ResultInfo {
    let code = match cause {
        Cause::Declined => code(603, 0),
        Cause::Cancelled => code(487, 0),
        other => shared(other, phone),
    };
    info(code, &format!("{}. DiagCode: {}#{}.@", text(cause, None), code.number, code.diag))
}

/// The end of an operation; `None` when everybody joined (OP-3).
///
/// `echoed` finds the `replacesCallId` that an invitee's echo holds.
pub(super) fn of_operation(operation: &Operation, echoed: impl Fn(&Invited) -> Option<String>) -> Option<ResultInfo> {
    let missed: Vec<_> = operation
        .invited
        .iter()
        .filter_map(|invited| match &invited.fate {
            Fate::Missed(cause) => Some((invited, cause)),
            Fate::Joined | Fate::Pending => None,
        })
        .collect();
    match &operation.status {
        Status::Running => None,
        // OP-4: the call ended first.
        Status::Failed { because: Some(cause), .. } => Some(of_call(cause, false)),
        Status::Failed { because: None, .. } | Status::Completed { .. } => {
            let (first, cause) = missed.first()?;
            let sentences: Vec<_> = missed.iter().map(|(who, cause)| sentence(who, cause, echoed(who))).collect();
            // OQ-6: partly successful.
            let completed = matches!(operation.status, Status::Completed { .. });
            let code = if completed { code(200, 9999) } else { of_invitee(cause, &first.identity) };
            Some(info(code, &sentences.join(" ")))
        }
    }
}

/// Contract 3.1.6: the pattern of every failed invitation.
fn sentence(invited: &Invited, cause: &Cause, replaces: Option<String>) -> String {
    let code = of_invitee(cause, &invited.identity);
    let reason = match (cause, replaces) {
        (Cause::NotReplaceable, Some(call)) => format!(
            "replacesCallId {call} is not a live call of this application with this person; leave it out to ring them"
        ),
        _ => text(cause, Some(&invited.identity)),
    };
    format!(
        "addParticipants failed for participant {}. Underlying reason: {reason}. DiagCode: {}#{}.@",
        mri(&invited.identity),
        code.number,
        code.diag
    )
}

fn of_invitee(cause: &Cause, identity: &Identity) -> Code {
    match cause {
        Cause::Declined => code(603, 8538),
        Cause::Cancelled => code(487, 8542),
        other => shared(other, identity.is_phone()),
    }
}

/// What is the same for a call and for an invitee.
fn shared(cause: &Cause, phone: bool) -> Code {
    match cause {
        Cause::Declined => code(603, 0),
        Cause::Busy if phone => code(486, 560486),
        Cause::Busy => code(486, 8539),
        Cause::NoAnswer => code(487, 10004),
        Cause::NoSignalling => code(408, 10057),
        Cause::Unavailable | Cause::BotUnreachable => code(480, 10076),
        Cause::NotRegistered | Cause::UnknownUser => code(480, 10037),
        Cause::NoRoute => code(480, 10134),
        Cause::Status(status) => code(*status, 9999),
        Cause::Cancelled => code(487, 0),
        Cause::NoCallerNumber => Code { number: 412, subcode: 9999, diag: 10073 },
        Cause::AlreadyHere | Cause::BeingMoved => code(409, 8519),
        Cause::NotReplaceable => code(404, 9999),
        Cause::NotInSource => code(404, 8558),
        Cause::HungUpByApp => code(200, 5001),
        Cause::PeerHungUp { phone: true } => code(200, 540000),
        Cause::PeerHungUp { phone: false } => code(200, 4521),
        Cause::Removed => code(200, 5000),
        Cause::Moved => code(200, 7015),
        Cause::Alone => code(200, 5010),
        Cause::KeepAliveExpired => code(408, 8537),
        Cause::MediaFailed => code(410, 301005),
        Cause::AppHostedMedia => code(500, 1_203_002),
        Cause::ServiceRestarted => code(500, 9001),
        Cause::Internal => code(500, 9999),
    }
}

/// The reason, without a full stop.
fn text(cause: &Cause, who: Option<&Identity>) -> String {
    let plain = match cause {
        Cause::Declined => "The callee declined the call",
        Cause::Busy => "The callee is busy",
        Cause::NoAnswer => "Nobody answered in time",
        Cause::NoSignalling => "Request Timeout: the callee's endpoint did not respond; check its network path",
        Cause::Unavailable => "The callee could not be reached",
        Cause::NotRegistered => {
            "No callee endpoints are registered; sign a SIP phone in as this user, or give the user a test line"
        }
        Cause::NoRoute => {
            "There is no route to the number, or every trunk failed; check the trunks' prefixes and whether their \
             peers answer"
        }
        Cause::Status(status) => return format!("The callee's endpoint answered {status}"),
        Cause::Cancelled => "The invitation was withdrawn",
        Cause::UnknownUser => return unknown_user(who),
        Cause::NoCallerNumber => {
            "Could not find the PSTN content for the sponsor of this PSTN leg: the application has no phone number to \
             call from; set its number in the directory"
        }
        Cause::BotUnreachable => "The application takes no calls",
        Cause::AlreadyHere => "The participant is in the call already, or is being called",
        Cause::NotReplaceable => {
            "replacesCallId is not a live call of this application with this person; leave it out to ring them"
        }
        Cause::NotInSource => "participantId is not on the roster of the call that replacesCallId names",
        Cause::BeingMoved => "The participant is being moved to another call",
        Cause::HungUpByApp => "The conversation has ended",
        Cause::PeerHungUp { phone: true } => "The call was ended by the PSTN user",
        Cause::PeerHungUp { phone: false } => "The call was ended by the other party",
        Cause::Removed => "The participant was removed from the conversation",
        Cause::Moved => "Call ended as the transfer completed",
        Cause::Alone => "The conversation ended as only one participant remained",
        Cause::KeepAliveExpired => "The call was ended because no keepAlive came in time",
        Cause::MediaFailed => "Media could not be agreed on, or did not flow",
        Cause::AppHostedMedia => {
            "Media could not be agreed on with the application: its appHostedMediaConfig is of no form that this server \
             speaks; use serviceHostedMediaConfig"
        }
        Cause::ServiceRestarted => "The service restarted",
        Cause::Internal => "An internal error ended the call",
    };
    plain.to_owned()
}

fn unknown_user(who: Option<&Identity>) -> String {
    let tenant = who.and_then(|who| who.tenant).map_or_else(String::new, |tenant| format!(" in tenant {tenant}"));
    let id = who.map_or_else(String::new, |who| format!(" {}", id_of(who)));
    format!("User{id} is unknown{tenant}; add the user to the directory")
}

/// The id within the identity's kind, in canonical form.
pub(super) fn id_of(identity: &Identity) -> String {
    match &identity.who {
        Who::User(user) => user.to_string(),
        Who::Application(app) | Who::ApplicationInstance(app) => app.to_string(),
        Who::Phone(number) => number.as_str().to_owned(),
        Who::Other { id, .. } => id.clone(),
    }
}

/// The prefixed form that messages name people by.
fn mri(identity: &Identity) -> String {
    let prefix = match &identity.who {
        Who::User(_) => "8:orgid:",
        Who::Application(_) | Who::ApplicationInstance(_) => "28:",
        Who::Phone(_) => "4:",
        Who::Other { .. } => "8:",
    };
    format!("{prefix}{}", id_of(identity))
}

fn info(code: Code, message: &str) -> ResultInfo {
    ResultInfo { code: Some(code.number.into()), subcode: Some(code.subcode.into()), message: Some(message.to_owned()) }
}

#[cfg(test)]
mod tests {
    use control::{CallId, ParticipantId, PhoneNumber, Repeat, Timestamp, UserId};
    use uuid::Uuid;

    use super::*;

    fn invited(who: Who, fate: Fate) -> Invited {
        Invited { participant: ParticipantId(Uuid::nil()), identity: Identity::new(who), echo: String::new(), fate }
    }

    fn operation(invited: Vec<Invited>, status: Status) -> Operation {
        Operation {
            call: CallId(Uuid::nil()),
            client_context: None,
            repeat: Repeat { fingerprint: String::new(), client_request_id: None },
            started: Timestamp(0),
            invited,
            all_or_failed: false,
            status,
        }
    }

    fn phone() -> Who {
        Who::Phone(PhoneNumber::parse("+61450078883").unwrap())
    }

    #[test]
    fn every_final_answer_has_its_numbers() {
        // Contract 6.3: the SIP table.
        let user = Identity::new(Who::User(UserId(Uuid::nil())));
        let phone = Identity::new(phone());
        let table = [
            (Cause::Declined, (603, 0), (603, 8538)),
            (Cause::Busy, (486, 8539), (486, 8539)),
            (Cause::NoAnswer, (487, 10004), (487, 10004)),
            (Cause::NoSignalling, (408, 10057), (408, 10057)),
            (Cause::Unavailable, (480, 10076), (480, 10076)),
            (Cause::NotRegistered, (480, 10037), (480, 10037)),
            (Cause::Cancelled, (487, 0), (487, 8542)),
            (Cause::NoRoute, (480, 10134), (480, 10134)),
            (Cause::Status(488), (488, 9999), (488, 9999)),
        ];
        for (cause, call, invite) in table {
            let info = of_call(&cause, false);
            assert_eq!((info.code, info.subcode), (Some(call.0), Some(call.1)), "{cause:?}");
            let code = of_invitee(&cause, &user);
            assert_eq!((i64::from(code.number), i64::from(code.subcode)), invite, "{cause:?}");
        }
        assert_eq!(of_invitee(&Cause::Busy, &phone), code(486, 560486));
        assert_eq!(of_call(&Cause::Busy, true).subcode, Some(560486));
        assert_eq!(of_call(&Cause::ServiceRestarted, false).subcode, Some(9001));
        // CALL-5, CALL-6, OQ-3
        assert_eq!(of_call(&Cause::PeerHungUp { phone: false }, false).subcode, Some(4521));
        assert_eq!(of_call(&Cause::PeerHungUp { phone: true }, true).subcode, Some(540000));
        assert_eq!(of_call(&Cause::Alone, false).subcode, Some(5010));
        assert_eq!(of_call(&Cause::Moved, false).subcode, Some(7015));
        assert_eq!(of_call(&Cause::KeepAliveExpired, false).code, Some(408));
    }

    #[test]
    fn a_failed_invitation_names_who_and_why() {
        // Contract 3.1.6, OP-3.
        let failed = Status::Failed { at: Timestamp(1), because: None };
        let info =
            of_operation(&operation(vec![invited(phone(), Fate::Missed(Cause::NoCallerNumber))], failed), |_| None)
                .unwrap();
        assert_eq!((info.code, info.subcode), (Some(412), Some(9999)));
        let message = info.message.unwrap();
        assert!(
            message.starts_with(
                "addParticipants failed for participant 4:+61450078883. Underlying reason: Could not find the PSTN \
                 content for the sponsor of this PSTN leg"
            ),
            "{message}"
        );
        assert!(message.ends_with(". DiagCode: 412#10073.@"), "{message}");
    }

    #[test]
    fn a_partly_successful_invitation_names_who_is_missing() {
        // OQ-6
        let operation = operation(
            vec![invited(Who::User(UserId(Uuid::nil())), Fate::Joined), invited(phone(), Fate::Missed(Cause::Busy))],
            Status::Completed { at: Timestamp(1) },
        );
        let info = of_operation(&operation, |_| None).unwrap();
        assert_eq!((info.code, info.subcode), (Some(200), Some(9999)));
        assert!(info.message.unwrap().contains("DiagCode: 486#560486.@"));
    }

    #[test]
    fn an_operation_whose_call_ended_ends_as_the_call() {
        // OP-4
        let status = Status::Failed { at: Timestamp(1), because: Some(Cause::ServiceRestarted) };
        let info = of_operation(&operation(vec![invited(phone(), Fate::Pending)], status), |_| None).unwrap();
        assert_eq!((info.code, info.subcode), (Some(500), Some(9001)));
    }
}
