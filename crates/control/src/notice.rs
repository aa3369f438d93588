//! What each application is told of a turn, and in which order. Graph's JSON for it is the API's business.

use crate::cause::Cause;
use crate::conference::Conference;
use crate::identity::Identity;
use crate::ids::{CallId, OperationId, ParticipantId};
use crate::vocabulary::Event;

/// One notification of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub call: CallId,
    pub news: News,
    /// The operation of any call whose terminal notification must be answered or given up before this one is sent.
    pub after: Option<OperationId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// `updated` on the call.
    State(Shown),
    /// `updated` on the call: the audio became active or inactive.
    Audio { active: bool, held: bool },
    /// `updated` on the call: it has a chat from here on (INV-31).
    Chat,
    /// `deleted` on the operation: it is over (INV-26).
    Operation(OperationId),
    /// `updated` on the participants: as seen by this call, whole or the changed entries of `delta`.
    Roster { delta: Option<Delta> },
    /// `deleted` on the call: the last of its notices (CALL-2).
    Terminated(Cause),
}

/// The states that are told by an `updated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Establishing,
    /// Beta only (OQ-23).
    Ringing,
    Established,
    Terminating,
}

/// What changed in the roster since the last delta (ROS-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// 1 for the first, which carries everybody; one more with each.
    pub sequence: u64,
    /// On the roster, in no particular order; the renderer leaves out whom the call may not see.
    pub changed: Vec<ParticipantId>,
    pub removed: Vec<(ParticipantId, Identity, Cause)>,
}

/// The notices of a turn, for every call of the conference, in the order they must be delivered in.
///
/// States come from the events, not from the conference after them; `conference` is the one after the turn. The roster
/// comes after the operation that changed it (ROS-8), and once per turn.
pub fn notices(conference: &Conference, events: &[Event]) -> Vec<Notice> {
    let mut notices: Vec<Notice> = events.iter().filter_map(|event| told_of(conference, event)).collect();
    if !changes_roster(events) {
        return notices;
    }
    for call in conference.calls_with_roster() {
        let delta = call.facts.delta_roster.then(|| delta(conference, call.deltas, events));
        notices.push(Notice { call: call.id, news: News::Roster { delta }, after: None });
    }
    notices
}

/// Of these, only the ends of operations and calls.
pub fn ends(conference: &Conference, events: &[Event]) -> Vec<Notice> {
    let told = events.iter().filter_map(|event| told_of(conference, event));
    told.filter(|notice| matches!(notice.news, News::Operation(_) | News::Terminated(_))).collect()
}

fn told_of(conference: &Conference, event: &Event) -> Option<Notice> {
    let notice = |call: &CallId, news| Some(Notice { call: *call, news, after: None });
    match event {
        Event::CallPlaced { call, .. } => notice(call, News::State(Shown::Establishing)),
        Event::CallRinging { call } => notice(call, News::State(Shown::Ringing)),
        Event::CallEstablished { call, .. } => notice(call, News::State(Shown::Established)),
        Event::AudioActive { call } => notice(call, News::Audio { active: true, held: false }),
        Event::CallHeld { call, held } => notice(call, News::Audio { active: !held, held: *held }),
        Event::Escalated { call, .. } => notice(call, News::Chat),
        Event::CallTerminating { call, .. } => notice(call, News::State(Shown::Terminating)),
        Event::CallTerminated { call, cause, because } => {
            Some(Notice { call: *call, news: News::Terminated(cause.clone()), after: *because })
        }
        Event::OperationCompleted { operation, .. } | Event::OperationFailed { operation, .. } => {
            notice(&conference.operation(*operation)?.call, News::Operation(*operation))
        }
        Event::Opened { .. }
        | Event::KeptAlive { .. }
        | Event::LegDialed { .. }
        | Event::LegConnected { .. }
        | Event::LegReshaped { .. }
        | Event::LegInterrupted { .. }
        | Event::LegResumed { .. }
        | Event::LegEnding { .. }
        | Event::LegLent { .. }
        | Event::LegKept { .. }
        | Event::LegGiven { .. }
        | Event::LegTaken { .. }
        | Event::LegGone { .. }
        | Event::OperationStarted { .. }
        | Event::InvitationSent { .. }
        | Event::InvitationFailed { .. }
        | Event::OperationForgotten { .. }
        | Event::ParticipantJoined { .. }
        | Event::ParticipantLeft { .. }
        | Event::Deserted { .. }
        | Event::DeltaTold { .. }
        | Event::MessageSent { .. }
        | Event::MessageDone { .. }
        | Event::MessageTaken { .. }
        | Event::Closed => None,
    }
}

/// Whether someone came, went or became visible or hidden.
pub(crate) fn changes_roster(events: &[Event]) -> bool {
    events.iter().any(|event| {
        matches!(
            event,
            Event::ParticipantJoined { .. }
                | Event::ParticipantLeft { .. }
                | Event::CallEstablished { .. }
                | Event::CallTerminated { .. }
                | Event::Escalated { .. }
        )
    })
}

fn delta(conference: &Conference, sequence: u64, events: &[Event]) -> Delta {
    if sequence <= 1 {
        let everybody = conference.roster().iter().map(|(id, _)| id).collect();
        return Delta { sequence, changed: everybody, removed: Vec::new() };
    }
    let mut delta = Delta { sequence, changed: Vec::new(), removed: Vec::new() };
    for event in events {
        match event {
            Event::ParticipantJoined { participant, .. } => delta.changed.push(*participant),
            Event::CallEstablished { call, .. } => {
                delta.changed.extend(conference.call_or_ended(*call).map(|call| call.facts.me));
            }
            Event::ParticipantLeft { participant, identity, cause } => {
                delta.removed.push((*participant, identity.clone(), cause.clone()));
            }
            Event::CallTerminated { call, cause, .. } => delta.removed.extend(
                conference.call_or_ended(*call).map(|call| (call.facts.me, call.facts.identity.clone(), cause.clone())),
            ),
            _ => {}
        }
    }
    delta
}
