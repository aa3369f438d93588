//! Who takes part: roster entries, invitees, and deltas of a roster.

use crate::enums::{EndpointType, MediaDirection, Modality, RecordingStatus};
use crate::identity::IdentitySet;
use crate::wire::wire;

wire! {
    /// An entry of a roster.
    Participant = "participant" {
        id: String = "id",
        info: ParticipantInfo = "info",
        is_identity_anonymized: bool = "isIdentityAnonymized" beta,
        is_in_lobby: bool = "isInLobby",
        is_muted: bool = "isMuted",
        media_streams: Vec<MediaStream> = "mediaStreams",
        metadata: String = "metadata",
        preferred_display_name: String = "preferredDisplayName" beta,
        recording_info: RecordingInfo = "recordingInfo",
        removed_state: RemovedState = "removedState",
        /// An object in the schema, never set here; so is the last one.
        restricted_experience: String = "restrictedExperience",
        roster_sequence_number: i64 = "rosterSequenceNumber",
        synthetic_media_detection: String = "syntheticMediaDetection" beta,
    }

    ParticipantInfo = "participantInfo" {
        /// Outside the models; captured replies show it as null.
        id: String = "id",
        country_code: String = "countryCode",
        endpoint_type: EndpointType = "endpointType",
        identity: IdentitySet = "identity",
        language_id: String = "languageId",
        non_anonymized_identity: IdentitySet = "nonAnonymizedIdentity" beta,
        participant_id: String = "participantId",
        platform_id: String = "platformId" beta,
        region: String = "region",
    }

    /// Someone to be called: an invitee, or the target of a call.
    InvitationParticipantInfo = "invitationParticipantInfo" {
        /// Legacy: always null in replies.
        id: String = "id",
        endpoint_type: EndpointType = "endpointType" beta,
        hidden: bool = "hidden",
        identity: IdentitySet = "identity",
        participant_id: String = "participantId",
        remove_from_default_audio_routing_group: bool = "removeFromDefaultAudioRoutingGroup",
        replaces_call_id: String = "replacesCallId",
    }

    MediaStream = "mediaStream" {
        direction: MediaDirection = "direction",
        label: String = "label",
        media_type: Modality = "mediaType",
        server_muted: bool = "serverMuted",
        source_id: String = "sourceId",
    }

    RecordingInfo = "recordingInfo" {
        initiated_by: ParticipantInfo = "initiatedBy" beta,
        initiator: IdentitySet = "initiator",
        recording_status: RecordingStatus = "recordingStatus",
    }

    /// On the entries of those who left, in a delta.
    RemovedState = "removedState" {
        reason: String = "reason",
    }

    /// What changed in a roster (ROS-3).
    DeltaParticipants = "deltaParticipants" {
        id: String = "id",
        participants: Vec<Participant> = "participants",
        sequence_number: i64 = "sequenceNumber",
    }
}
