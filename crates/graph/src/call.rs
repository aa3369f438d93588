//! `call`: one application's hold on a conference, as it is created, read and reported.

use crate::enums::{
    CallDirection, CallState, MediaState, Modality, RoutingPolicy, RoutingType, Tone, TranscriptionState,
};
use crate::identity::IdentitySet;
use crate::media::MediaConfig;
use crate::meeting::{ChatInfo, MeetingCapability, MeetingInfo};
use crate::operation::ResultInfo;
use crate::participant::{InvitationParticipantInfo, ParticipantInfo};
use crate::wire::wire;

wire! {
    Call = "call" {
        id: String = "id",
        active_modalities: Vec<Modality> = "activeModalities" beta,
        answered_by: ParticipantInfo = "answeredBy" beta,
        call_chain_id: String = "callChainId",
        call_options: CallOptions = "callOptions",
        call_routes: Vec<CallRoute> = "callRoutes",
        callback_uri: String = "callbackUri",
        chat_info: ChatInfo = "chatInfo",
        direction: CallDirection = "direction",
        incoming_context: IncomingContext = "incomingContext",
        media_config: MediaConfig = "mediaConfig",
        media_state: CallMediaState = "mediaState",
        meeting_capability: MeetingCapability = "meetingCapability" beta,
        meeting_info: MeetingInfo = "meetingInfo",
        my_participant_id: String = "myParticipantId",
        requested_modalities: Vec<Modality> = "requestedModalities",
        result_info: ResultInfo = "resultInfo",
        ringing_timeout_in_seconds: i64 = "ringingTimeoutInSeconds" beta,
        routing_policies: Vec<RoutingPolicy> = "routingPolicies" beta,
        source: ParticipantInfo = "source",
        state: CallState = "state",
        subject: String = "subject",
        targets: Vec<InvitationParticipantInfo> = "targets",
        tenant_id: String = "tenantId",
        termination_reason: String = "terminationReason" beta,
        tone_info: ToneInfo = "toneInfo",
        transcription: CallTranscriptionInfo = "transcription",
    }

    CallOptions = "outgoingCallOptions" {
        hide_bot_after_escalation: bool = "hideBotAfterEscalation",
        is_content_sharing_notification_enabled: bool = "isContentSharingNotificationEnabled",
        is_delta_roster_enabled: bool = "isDeltaRosterEnabled",
        is_interactive_roster_enabled: bool = "isInteractiveRosterEnabled",
    }

    CallRoute = "callRoute" {
        last: IdentitySet = "final",
        original: IdentitySet = "original",
        routing_type: RoutingType = "routingType",
    }

    CallMediaState = "callMediaState" {
        audio: MediaState = "audio",
    }

    CallTranscriptionInfo = "callTranscriptionInfo" {
        last_modified_date_time: String = "lastModifiedDateTime",
        state: TranscriptionState = "state",
    }

    IncomingContext = "incomingContext" {
        observed_participant_id: String = "observedParticipantId",
        on_behalf_of: IdentitySet = "onBehalfOf",
        source_participant_id: String = "sourceParticipantId",
        transferor: IdentitySet = "transferor",
    }

    ToneInfo = "toneInfo" {
        sequence_id: i64 = "sequenceId",
        tone: Tone = "tone",
    }
}
