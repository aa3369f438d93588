//! From a conference to Graph's JSON: replies and notifications alike.

use std::sync::Arc;

use control::{
    Audio, Call, CallId, CallState, Conference, Delta, Event, Invited, Kind, News, Notice, Operation, OperationId,
    Participant, ParticipantId, Shown, Status, Surface, Timestamp, Who, limits,
};
use engine::Detail;
use graph::{
    ChangeType, ChatInfo, DeltaParticipants, EndpointType, Form, IdentitySet, InvitationParticipantInfo,
    InviteParticipantsOperation, MediaDirection, MediaStream, Modality, OperationStatus, ParticipantInfo, RemovedState,
    Wire,
};
use serde_json::Value;
use store::OutgoingNotice;

use super::result;

/// The engine's renderer: what each application is told of a turn.
pub fn renderer() -> engine::Render {
    Arc::new(render)
}

/// The notices of a turn, for every call of the conference.
pub fn render(conference: &Conference, events: &[Event], detail: Detail) -> Vec<OutgoingNotice> {
    let notices = match detail {
        Detail::Whole => control::notices(conference, events),
        Detail::Ends => control::ends(conference, events),
    };
    notices.iter().filter_map(|notice| outgoing(conference, notice, detail)).collect()
}

fn outgoing(conference: &Conference, notice: &Notice, detail: Detail) -> Option<OutgoingNotice> {
    let call = conference.call_or_ended(notice.call)?;
    let form = Form::notice(call.facts.surface == Surface::Beta);
    let here = format!("/calls/{}", call.id);
    let (change, path, data) = match &notice.news {
        // OQ-23: v1.0 has no such state.
        News::State(Shown::Ringing) if !form.beta => return None,
        News::State(shown) => (ChangeType::Updated, here, told_state(call, *shown).write(form)),
        News::Audio { active, held } => {
            let told = graph::Call {
                state: Some(if *held { graph::CallState::Hold } else { graph::CallState::Established }),
                media_state: Some(media_state(*active)),
                ..told(call)
            };
            (ChangeType::Updated, here, told.write(form))
        }
        News::Chat => {
            let told =
                graph::Call { state: Some(state(call, form.beta)), chat_info: chat(conference, call), ..told(call) };
            (ChangeType::Updated, here, told.write(form))
        }
        News::Operation(id) => {
            let operation = conference.operation(*id)?;
            let told = match detail {
                Detail::Whole => ended_operation(*id, operation),
                Detail::Ends => barely_ended_operation(*id, operation),
            };
            let told = told.write(form);
            (ChangeType::Deleted, format!("{here}/operations/{id}"), told)
        }
        News::Roster { delta } => {
            let data = match delta {
                None => Value::Array(roster(conference, call, form)),
                Some(delta) => Value::Array(vec![told_delta(conference, call, delta).write(form)]),
            };
            (ChangeType::Updated, format!("{here}/participants"), data)
        }
        News::Terminated(cause) => {
            let (told, talks_to_phone) = match detail {
                Detail::Whole => (told(call), talks_to_phone(call)),
                Detail::Ends => (graph::Call { id: Some(call.id.to_string()), ..graph::Call::default() }, false),
            };
            let told = graph::Call {
                state: Some(graph::CallState::Terminated),
                result_info: Some(result::of_call(cause, talks_to_phone)),
                ..told
            };
            (ChangeType::Deleted, here, told.write(form))
        }
    };
    Some(OutgoingNotice {
        call: call.id,
        app: call.facts.app,
        tenant: call.facts.tenant,
        callback: call.facts.callback.clone(),
        scenario: call.facts.scenario,
        chain: call.facts.chain,
        body: graph::notification::notifications(change, &path, data).to_string(),
        after: notice.after,
        settles: match notice.news {
            News::Operation(id) => Some(id),
            News::State(_) | News::Audio { .. } | News::Chat | News::Roster { .. } | News::Terminated(_) => None,
        },
        full_roster: matches!(notice.news, News::Roster { delta: None }),
        ends_call: matches!(notice.news, News::Terminated(_)),
    })
}

/// What every notification of a call says (CALL-1).
fn told(call: &Call) -> graph::Call {
    let mut told = graph::Call {
        id: Some(call.id.to_string()),
        call_chain_id: Some(call.facts.chain.to_string()),
        tenant_id: Some(call.facts.tenant.to_string()),
        ..graph::Call::default()
    };
    // From what was sent: the last call's end is told when the conference has closed already.
    let sent = echoed(call);
    if sent.meeting_info.is_some() {
        told.chat_info = sent.chat_info;
        told.meeting_info = sent.meeting_info;
        told.meeting_capability = Some(graph::MeetingCapability {
            allow_anonymous_users_to_dial_out: Some(false),
            allow_anonymous_users_to_start_meeting: Some(false),
        });
    }
    told
}

fn told_state(call: &Call, shown: Shown) -> graph::Call {
    let state = match shown {
        Shown::Establishing => graph::CallState::Establishing,
        Shown::Ringing => graph::CallState::Ringing,
        Shown::Established => graph::CallState::Established,
        Shown::Terminating => graph::CallState::Terminating,
    };
    let established = matches!(shown, Shown::Established);
    graph::Call { state: Some(state), direction: established.then_some(graph::CallDirection::Outgoing), ..told(call) }
}

fn told_delta(conference: &Conference, call: &Call, delta: &Delta) -> DeltaParticipants {
    let seen = conference.roster().seen_by(call.facts.me).filter(|(id, _)| delta.changed.contains(id));
    let gone = delta.removed.iter().map(|(id, identity, cause)| graph::Participant {
        id: Some(id.to_string()),
        info: Some(ParticipantInfo { identity: Some(identity_set(identity)), ..ParticipantInfo::default() }),
        removed_state: Some(RemovedState { reason: result::of_call(cause, identity.is_phone()).message }),
        ..graph::Participant::default()
    });
    DeltaParticipants {
        id: None,
        participants: Some(seen.map(|(id, entry)| participant(id, entry)).chain(gone).collect()),
        sequence_number: i64::try_from(delta.sequence).ok(),
    }
}

/// Everyone whom a call may see, in the order they came (ROS-2).
pub(super) fn roster(conference: &Conference, call: &Call, form: Form) -> Vec<Value> {
    let mut seen: Vec<_> = conference.roster().seen_by(call.facts.me).collect();
    seen.sort_by_key(|(_, entry)| entry.source);
    seen.into_iter().map(|(id, entry)| participant(id, entry).write(form)).collect()
}

/// One entry of the roster, if the call may see it.
pub(super) fn roster_entry(conference: &Conference, call: &Call, id: ParticipantId, form: Form) -> Option<Value> {
    let (id, entry) = conference.roster().seen_by(call.facts.me).find(|(seen, _)| *seen == id)?;
    Some(participant(id, entry).write(form))
}

fn participant(id: ParticipantId, entry: &Participant) -> graph::Participant {
    graph::Participant {
        id: Some(id.to_string()),
        info: Some(ParticipantInfo {
            identity: Some(identity_set(&entry.identity)),
            endpoint_type: Some(EndpointType::Default),
            ..ParticipantInfo::default()
        }),
        is_in_lobby: Some(false),
        is_muted: Some(false),
        media_streams: Some(vec![MediaStream {
            media_type: Some(Modality::Audio),
            source_id: Some(entry.source.to_string()),
            direction: Some(MediaDirection::SendReceive),
            server_muted: Some(false),
            label: None,
        }]),
        roster_sequence_number: i64::try_from(entry.since).ok(),
        ..graph::Participant::default()
    }
}

/// A call as it stands.
pub(super) fn call(conference: &Conference, call: &Call, form: Form) -> Value {
    graph::Call { state: Some(state(call, form.beta)), ..whole(conference, call) }.write(form)
}

/// A call just placed: whatever became of it since, the reply is about its beginning (contract 3.2).
pub(super) fn placed_call(conference: &Conference, call: &Call, form: Form) -> Value {
    graph::Call {
        state: Some(graph::CallState::Establishing),
        active_modalities: Some(Vec::new()),
        media_state: None,
        result_info: None,
        transcription: None,
        ..whole(conference, call)
    }
    .write(form)
}

fn whole(conference: &Conference, call: &Call) -> graph::Call {
    let facts = &call.facts;
    let audible = matches!(call.audio, Audio::Active) && call.is_established();
    let held = matches!(call.state, CallState::Established { held: true, .. });
    let established = match call.state {
        CallState::Established { since, .. } if !conference.is_peer_to_peer() => Some(since),
        _ => None,
    };
    graph::Call {
        id: Some(call.id.to_string()),
        active_modalities: Some(if call.is_established() { vec![Modality::Audio] } else { Vec::new() }),
        call_chain_id: Some(facts.chain.to_string()),
        call_routes: Some(Vec::new()),
        callback_uri: Some(facts.callback.clone()),
        chat_info: chat(conference, call),
        direction: Some(graph::CallDirection::Outgoing),
        media_state: audible.then(|| media_state(!held)),
        my_participant_id: Some(facts.me.to_string()),
        source: Some(ParticipantInfo { identity: Some(identity_set(&facts.identity)), ..ParticipantInfo::default() }),
        tenant_id: Some(facts.tenant.to_string()),
        transcription: established.map(|since| graph::CallTranscriptionInfo {
            state: Some(graph::TranscriptionState::NotStarted),
            last_modified_date_time: Some(format!("{}Z", super::exchange::utc(since))),
        }),
        ..echoed(call)
    }
}

/// What the client sent with the call.
fn echoed(call: &Call) -> graph::Call {
    serde_json::from_str(&call.facts.echo).ok().and_then(|echo| graph::Call::read(&echo).ok()).unwrap_or_default()
}

fn state(call: &Call, beta: bool) -> graph::CallState {
    match call.state {
        // OQ-23: v1.0 has no such state.
        CallState::Establishing { ringing: true, .. } if beta => graph::CallState::Ringing,
        CallState::Establishing { .. } => graph::CallState::Establishing,
        CallState::Established { held: true, .. } => graph::CallState::Hold,
        CallState::Established { .. } => graph::CallState::Established,
        CallState::Terminating { .. } => graph::CallState::Terminating,
        CallState::Terminated { .. } => graph::CallState::Terminated,
    }
}

fn media_state(active: bool) -> graph::CallMediaState {
    graph::CallMediaState { audio: Some(if active { graph::MediaState::Active } else { graph::MediaState::Inactive }) }
}

/// A meeting's chat was sent, or looked up, when it was joined. OQ-7: an ad-hoc group has a thread, but shows none until
/// it was a peer-to-peer call once.
fn chat(conference: &Conference, call: &Call) -> Option<ChatInfo> {
    match &conference.opened()?.kind {
        Kind::PeerToPeer | Kind::Group { chat_shown: false, .. } => None,
        Kind::Group { thread, chat_shown: true } => Some(ChatInfo {
            thread_id: Some(thread.clone()),
            message_id: Some("0".to_owned()),
            reply_chain_message_id: None,
        }),
        Kind::Meeting(_) => echoed(call).chat_info,
    }
}

/// Whether the one other party is on the public network: the numbers of its end differ (contract 6.3).
fn talks_to_phone(call: &Call) -> bool {
    let targets = echoed(call).targets.unwrap_or_default();
    matches!(targets.as_slice(), [only] if only.identity.as_ref().is_some_and(|who| who.get("phone").is_some()))
}

/// An operation in a reply. A first reply says that it runs, even if it is over already: the end is told by a
/// notification (OP-1, INV-11).
pub(super) fn operation(id: OperationId, operation: &Operation, running: bool, form: Form) -> Value {
    let status = if running { OperationStatus::Running } else { status(operation) };
    InviteParticipantsOperation {
        id: Some(id.to_string()),
        client_context: operation.client_context.clone(),
        participants: Some(operation.invited.iter().map(invitee).collect()),
        result_info: if running { None } else { result::of_operation(operation, replaces) },
        status: Some(status),
    }
    .write(form)
}

fn status(operation: &Operation) -> OperationStatus {
    match operation.status {
        Status::Running => OperationStatus::Running,
        Status::Completed { .. } => OperationStatus::Completed,
        Status::Failed { .. } => OperationStatus::Failed,
    }
}

/// INV-26, INV-27: who was asked for, and how it went.
fn ended_operation(id: OperationId, operation: &Operation) -> InviteParticipantsOperation {
    let identities = operation.invited.iter().map(|invited| InvitationParticipantInfo {
        identity: Some(identity_set(&invited.identity)),
        ..InvitationParticipantInfo::default()
    });
    InviteParticipantsOperation {
        id: Some(id.to_string()),
        client_context: operation.client_context.clone(),
        participants: Some(identities.collect()),
        result_info: result::of_operation(operation, replaces),
        status: Some(status(operation)),
    }
}

/// The same without anything of the invited.
fn barely_ended_operation(id: OperationId, operation: &Operation) -> InviteParticipantsOperation {
    InviteParticipantsOperation {
        id: Some(id.to_string()),
        client_context: operation.client_context.clone(),
        participants: None,
        result_info: result::of_operation(operation, |_| None),
        status: Some(status(operation)),
    }
}

/// An invitee in a reply: as sent, with the identity enriched (INV-24) and an id to withdraw the invitation by (INV-29).
fn invitee(invited: &Invited) -> InvitationParticipantInfo {
    let sent = sent(invited);
    InvitationParticipantInfo {
        id: None,
        identity: Some(identity_set(&invited.identity)),
        // A move repeats the id that the participant has in the source (contract A.5).
        participant_id: sent.participant_id.or_else(|| Some(invited.participant.to_string())),
        endpoint_type: sent.endpoint_type,
        hidden: sent.hidden,
        remove_from_default_audio_routing_group: sent.remove_from_default_audio_routing_group,
        replaces_call_id: sent.replaces_call_id,
    }
}

fn sent(invited: &Invited) -> InvitationParticipantInfo {
    serde_json::from_str(&invited.echo)
        .ok()
        .and_then(|echo| InvitationParticipantInfo::read(&echo).ok())
        .unwrap_or_default()
}

fn replaces(invited: &Invited) -> Option<String> {
    sent(invited).replaces_call_id
}

/// Whether an operation can be read still: while it runs, and for a while after (contract 3.17).
pub(super) fn visible(operation: &Operation, call: CallId, now: Timestamp) -> bool {
    operation.call == call
        && match operation.status {
            Status::Running => true,
            Status::Completed { at } | Status::Failed { at, .. } => now.since(at) < limits::OPERATION_VISIBLE_FOR,
        }
}

/// An identity under its one member.
pub(super) fn identity_set(identity: &control::Identity) -> IdentitySet {
    let member = match &identity.who {
        Who::User(_) => "user",
        Who::Application(_) => "application",
        Who::ApplicationInstance(_) => "applicationInstance",
        Who::Phone(_) => "phone",
        Who::Other { member, .. } => member.as_str(),
    };
    let wire = graph::Identity {
        // as the client wrote it.
        id: Some(identity.spelled.clone().unwrap_or_else(|| result::id_of(identity))),
        display_name: identity.display_name.clone(),
        identity_provider: identity.provider.clone(),
        tenant_id: identity.tenant.map(|tenant| tenant.to_string()),
    };
    IdentitySet::of(member, wire)
}
