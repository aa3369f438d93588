//! A meeting as Graph shows it: everything that a joiner needs.

use control::Timestamp;
use graph::{
    AudioConferencing, ChatInfo, JoinMeetingIdSettings, LobbyBypassScope, LobbyBypassSettings, MeetingParticipantInfo,
    MeetingParticipants, OnlineMeeting, OnlineMeetingPresenters, OnlineMeetingRole, Wire,
};
use serde_json::{Value, json};
use store::{Directory, Meeting};

use crate::api::exchange::{Ask, Exchange, utc};
use crate::api::service::Service;
use crate::api::{from_graph, percent, to_graph};

pub(super) fn view(ask: &Ask, service: &Service, directory: &Directory, meeting: &Meeting) -> Value {
    let kept = OnlineMeeting::read(&meeting.body).unwrap_or_default();
    let organizer = meeting.organizer.map(|user| from_graph::organizer(directory, meeting.tenant, user));
    let upn = meeting.organizer.and_then(|user| directory.user(user)?.upn.clone());
    let attendees = kept.participants.as_ref().and_then(|participants| participants.attendees.clone());
    OnlineMeeting {
        id: Some(meeting.id.to_string()),
        allowed_presenters: Some(kept.allowed_presenters.unwrap_or(OnlineMeetingPresenters::Everyone)),
        audio_conferencing: None::<AudioConferencing>,
        chat_info: Some(ChatInfo {
            thread_id: Some(meeting.thread.clone()),
            message_id: Some("0".to_owned()),
            reply_chain_message_id: None,
        }),
        creation_date_time: Some(zulu(meeting.created)),
        start_date_time: Some(zulu(meeting.start)),
        end_date_time: Some(zulu(meeting.end)),
        external_id: meeting.external_id.clone(),
        is_broadcast: Some(false),
        is_entry_exit_announced: Some(kept.is_entry_exit_announced.unwrap_or(false)),
        join_meeting_id_settings: Some(JoinMeetingIdSettings {
            is_passcode_required: Some(meeting.passcode.is_some()),
            join_meeting_id: Some(meeting.join_meeting_id.clone()),
            passcode: meeting.passcode.clone(),
        }),
        join_web_url: Some(join_web_url(&ask.exchange, service, meeting)),
        lobby_bypass_settings: Some(kept.lobby_bypass_settings.unwrap_or(LobbyBypassSettings {
            is_dial_in_bypass_enabled: Some(true),
            scope: Some(LobbyBypassScope::Organization),
        })),
        participants: Some(MeetingParticipants {
            attendees: Some(attendees.unwrap_or_default()),
            organizer: organizer.as_ref().map(|organizer| MeetingParticipantInfo {
                identity: Some(to_graph::identity_set(organizer)),
                role: Some(OnlineMeetingRole::Presenter),
                upn,
            }),
        }),
        subject: meeting.subject.clone(),
        video_teleconference_id: meeting.vtc_id.clone(),
        ..kept
    }
    .write(ask.form)
}

/// The form of contract 3.2, with the operator's host (OQ-10).
pub(super) fn join_web_url(exchange: &Exchange, service: &Service, meeting: &Meeting) -> String {
    let mut context = json!({"Tid": meeting.tenant.to_string()});
    if let Some(organizer) = meeting.organizer {
        context["Oid"] = Value::from(organizer.to_string());
    }
    service
        .settings
        .join_web_url
        .replace("{base}", &exchange.base)
        .replace("{thread}", &percent::encode(&meeting.thread))
        .replace("{message}", "0")
        .replace("{context}", &percent::encode(&context.to_string()))
}

fn zulu(at: Timestamp) -> String {
    format!("{}Z", utc(at))
}

/// The organizer that a body names, where the path does not.
pub(super) fn named_organizer(body: &OnlineMeeting) -> Option<&graph::Identity> {
    body.participants.as_ref()?.organizer.as_ref()?.identity.as_ref()?.get("user")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc() {
        assert_eq!(zulu(Timestamp(1_795_438_800_999)), "2026-11-23T13:00:00Z");
    }
}
