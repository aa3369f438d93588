//! Meetings: how a call names the one to join, and `onlineMeeting` itself.

use serde_json::Value;

use crate::enums::{LobbyBypassScope, OnlineMeetingPresenters, OnlineMeetingRole};
use crate::identity::IdentitySet;
use crate::wire::{Bad, Form, Object, Wire, Writer, wire};

/// Which meeting a call joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeetingInfo {
    Organizer {
        organizer: Option<IdentitySet>,
        allow_conversation_without_host: Option<bool>,
    },
    Token {
        token: Option<String>,
        allow_conversation_without_host: Option<bool>,
    },
    JoinMeetingId {
        join_meeting_id: Option<String>,
        passcode: Option<String>,
        allow_conversation_without_host: Option<bool>,
    },
}

impl Wire for MeetingInfo {
    /// Without a type, the members tell which it is (contract 4).
    fn read(value: &Value) -> Result<Self, Bad> {
        let object = Object::of(value)?;
        let allow_conversation_without_host = object.read("allowConversationWithoutHost")?;
        let kind = object.odata_type()?;
        let has = |member: &str| object.member(member).is_some();
        let kind = match kind.as_str() {
            "" | "meetinginfo" if has("joinMeetingId") => "joinmeetingidmeetinginfo",
            "" | "meetinginfo" if has("token") => "tokenmeetinginfo",
            "" | "meetinginfo" => "organizermeetinginfo",
            named => named,
        };
        match kind {
            "organizermeetinginfo" => {
                Ok(Self::Organizer { organizer: object.read("organizer")?, allow_conversation_without_host })
            }
            "tokenmeetinginfo" => Ok(Self::Token { token: object.read("token")?, allow_conversation_without_host }),
            "joinmeetingidmeetinginfo" => Ok(Self::JoinMeetingId {
                join_meeting_id: object.read("joinMeetingId")?,
                passcode: object.read("passcode")?,
                allow_conversation_without_host,
            }),
            other => Err(Bad::at("@odata.type", format!("'{other}' names no way to join a meeting"))),
        }
    }

    fn write(&self, form: Form) -> Value {
        const WITHOUT_HOST: &str = "allowConversationWithoutHost";
        match self {
            Self::Organizer { organizer, allow_conversation_without_host } => {
                let mut object = Writer::new("#microsoft.graph.organizerMeetingInfo", form);
                object.put(WITHOUT_HOST, allow_conversation_without_host.as_ref(), true);
                object.put("organizer", organizer.as_ref(), false);
                object.done()
            }
            Self::Token { token, allow_conversation_without_host } => {
                let mut object = Writer::new("#microsoft.graph.tokenMeetingInfo", form);
                object.put(WITHOUT_HOST, allow_conversation_without_host.as_ref(), true);
                object.put("token", token.as_ref(), false);
                object.done()
            }
            Self::JoinMeetingId { join_meeting_id, passcode, allow_conversation_without_host } => {
                let mut object = Writer::new("#microsoft.graph.joinMeetingIdMeetingInfo", form);
                object.put(WITHOUT_HOST, allow_conversation_without_host.as_ref(), true);
                object.put("joinMeetingId", join_meeting_id.as_ref(), false);
                object.put("passcode", passcode.as_ref(), false);
                object.done()
            }
        }
    }
}

wire! {
    ChatInfo = "chatInfo" {
        message_id: String = "messageId",
        reply_chain_message_id: String = "replyChainMessageId",
        thread_id: String = "threadId",
    }

    MeetingCapability = "meetingCapability" {
        allow_anonymous_users_to_dial_out: bool = "allowAnonymousUsersToDialOut",
        allow_anonymous_users_to_start_meeting: bool = "allowAnonymousUsersToStartMeeting",
    }

    /// Those of its properties that mean something here, or that a joiner looks for.
    OnlineMeeting = "onlineMeeting" {
        id: String = "id",
        allow_attendee_to_enable_camera: bool = "allowAttendeeToEnableCamera",
        allow_attendee_to_enable_mic: bool = "allowAttendeeToEnableMic",
        allowed_presenters: OnlineMeetingPresenters = "allowedPresenters",
        audio_conferencing: AudioConferencing = "audioConferencing",
        chat_info: ChatInfo = "chatInfo",
        creation_date_time: String = "creationDateTime",
        end_date_time: String = "endDateTime",
        external_id: String = "externalId",
        is_broadcast: bool = "isBroadcast",
        is_entry_exit_announced: bool = "isEntryExitAnnounced",
        join_meeting_id_settings: JoinMeetingIdSettings = "joinMeetingIdSettings",
        join_url: String = "joinUrl" beta,
        join_web_url: String = "joinWebUrl",
        lobby_bypass_settings: LobbyBypassSettings = "lobbyBypassSettings",
        participants: MeetingParticipants = "participants",
        start_date_time: String = "startDateTime",
        subject: String = "subject",
        video_teleconference_id: String = "videoTeleconferenceId",
    }

    MeetingParticipants = "meetingParticipants" {
        attendees: Vec<MeetingParticipantInfo> = "attendees",
        organizer: MeetingParticipantInfo = "organizer",
    }

    MeetingParticipantInfo = "meetingParticipantInfo" {
        identity: IdentitySet = "identity",
        role: OnlineMeetingRole = "role",
        upn: String = "upn",
    }

    LobbyBypassSettings = "lobbyBypassSettings" {
        is_dial_in_bypass_enabled: bool = "isDialInBypassEnabled",
        scope: LobbyBypassScope = "scope",
    }

    JoinMeetingIdSettings = "joinMeetingIdSettings" {
        is_passcode_required: bool = "isPasscodeRequired",
        join_meeting_id: String = "joinMeetingId",
        passcode: String = "passcode",
    }

    AudioConferencing = "audioConferencing" {
        conference_id: String = "conferenceId",
        dialin_url: String = "dialinUrl",
        toll_free_number: String = "tollFreeNumber",
        toll_free_numbers: Vec<String> = "tollFreeNumbers",
        toll_number: String = "tollNumber",
        toll_numbers: Vec<String> = "tollNumbers",
    }
}
