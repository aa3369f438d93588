//! The wire: Microsoft Graph's JSON for cloud communications, field for field.
//!
//! Reading is tolerant (contract ): members it does not know are ignored, explicit nulls mean absence, types
//! may go unnamed, enumeration members come in any case, numbers may be strings. Writing is exact: a [`Form`] says
//! whether unset members appear as nulls, whether beta's members appear, and how an operation's status is spelled.
//! What any of it means is decided elsewhere.

mod call;
mod enums;
pub mod error;
mod identity;
mod media;
mod meeting;
pub mod notification;
mod operation;
mod participant;
mod wire;

pub use call::{Call, CallMediaState, CallOptions, CallRoute, CallTranscriptionInfo, IncomingContext, ToneInfo};
pub use enums::{
    CallDirection, CallState, ChangeType, EndpointType, LobbyBypassScope, MediaDirection, MediaState, Modality,
    OnlineMeetingPresenters, OnlineMeetingRole, OperationStatus, RecordingStatus, RoutingPolicy, RoutingType, Tone,
    TranscriptionState,
};
pub use identity::{Identity, IdentitySet};
pub use media::{MediaConfig, MediaInfo};
pub use meeting::{
    AudioConferencing, ChatInfo, JoinMeetingIdSettings, LobbyBypassSettings, MeetingCapability, MeetingInfo,
    MeetingParticipantInfo, MeetingParticipants, OnlineMeeting,
};
pub use operation::{InviteParticipantsOperation, InviteRequest, ResultInfo};
pub use participant::{
    DeltaParticipants, InvitationParticipantInfo, MediaStream, Participant, ParticipantInfo, RecordingInfo,
    RemovedState,
};
pub use wire::{Bad, Form, Wire, parse};
