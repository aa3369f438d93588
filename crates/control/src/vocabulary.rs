//! The four words the whole system speaks: command, signal, event, effect.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::call::CallFacts;
use crate::cause::Cause;
use crate::conference::Kind;
use crate::identity::{Identity, Principal};
use crate::ids::{AppId, CallId, ConferenceId, LegId, OperationId, ParticipantId, TenantId, Timestamp};
use crate::leg::{Snapshot, Target};
use crate::message::Message;
use crate::operation::{Arrival, Invited, Invitee, Purpose, Repeat};

/// One thing to take to its consequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Command(Principal, Command),
    Signal(Signal),
}

/// What a client asks for. May be refused. Every id in it that names something new is fresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Call one person, or several at once: a new conference.
    Place {
        call: CallId,
        facts: Box<CallFacts>,
        /// One makes it peer-to-peer, more a group.
        targets: Vec<Invitee>,
        ring_for: Duration,
    },
    /// Join a meeting: its conference opens with the first to join.
    Join {
        call: CallId,
        facts: Box<CallFacts>,
        meeting: Meeting,
    },
    Invite {
        call: CallId,
        invite: Invite,
    },
    /// Hang up a participant, or withdraw the invitation of one that rings.
    Remove {
        call: CallId,
        participant: ParticipantId,
    },
    KeepAlive {
        call: CallId,
    },
    HangUp {
        call: CallId,
    },
}

/// Bring these people in, as one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    pub operation: OperationId,
    pub invitees: Vec<Invitee>,
    pub client_context: Option<String>,
    pub repeat: Repeat,
    /// The client says that it has sent this before (`Retry-Attempt`).
    pub retried: bool,
    pub policy: InvitePolicy,
}

/// What the operator decided about invitations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvitePolicy {
    /// OQ-25: 1 by default; 0 refuses every bot.
    pub invited_bots_max: u8,
    /// OQ-7: refuse several invitees where the group call has no chat on the wire.
    pub strict_chat_info: bool,
    /// OQ-6: whether an operation of which only some joined is completed. Off: it failed.
    pub partial_is_success: bool,
}

impl Default for InvitePolicy {
    fn default() -> Self {
        Self { invited_bots_max: 1, strict_chat_info: false, partial_is_success: true }
    }
}

/// A meeting, as far as its conference must know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meeting {
    pub organizer: Option<Identity>,
    /// The application that created it: only its own meetings may people be moved between (INV-18).
    pub created_by: AppId,
    /// Graph's `chatInfo.threadId`.
    pub thread: String,
}

/// What the world reports. Never refused; at worst, ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    Leg(LegId, LegNews),
    /// Another conference says something; taken once, in order of `number`.
    Told {
        from: ConferenceId,
        number: u64,
        message: Message,
    },
    /// The other conference has taken a message of ours.
    Acknowledged {
        by: ConferenceId,
        number: u64,
    },
    /// There is no such conference any more to take it.
    Undeliverable {
        to: ConferenceId,
        number: u64,
    },
    /// The process that held this conference ended without a word, and this is another one: it goes on from here.
    Restarted,
    /// The server stops for good: everything ends.
    Stopping,
    /// A fault of ours has cost a signal, and what it said: nobody knows any more how things stand, and everything ends.
    Fell,
    /// A deadline has passed.
    Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegNews {
    /// The endpoint alerts.
    Ringing,
    /// The endpoint answered; it is acknowledged once this is written down.
    Connected(Snapshot),
    /// The first packet of audio came.
    MediaUp,
    /// The endpoint put us on hold, or took us back.
    Held(bool),
    /// The session changed shape (re-INVITE, new remote target).
    Reshaped(Snapshot),
    /// The endpoint is still there, and this process talks to it in the dialog of an earlier one.
    Resumed(Snapshot),
    /// The leg is gone, for whatever reason: the last news of it.
    HungUp(Cause),
}

/// What has happened. Written down, replayed, and told to whoever subscribed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Opened {
        at: Timestamp,
        tenant: TenantId,
        kind: Kind,
        created_by: AppId,
    },
    CallPlaced {
        call: CallId,
        facts: Box<CallFacts>,
        give_up_at: Timestamp,
    },
    CallRinging {
        call: CallId,
    },
    CallEstablished {
        call: CallId,
        at: Timestamp,
        keep_alive_by: Timestamp,
        audio_by: Timestamp,
    },
    /// Told to the application exactly once per call (contract 3.2).
    AudioActive {
        call: CallId,
    },
    CallHeld {
        call: CallId,
        held: bool,
    },
    KeptAlive {
        call: CallId,
        keep_alive_by: Timestamp,
    },
    /// The peer-to-peer call has become a group call (INV-31).
    Escalated {
        call: CallId,
        thread: String,
    },
    CallTerminating {
        call: CallId,
        cause: Cause,
        give_up_at: Timestamp,
    },
    /// `because` names the operation of another conference whose end must be told first (INV-16).
    CallTerminated {
        call: CallId,
        cause: Cause,
        because: Option<OperationId>,
    },

    LegDialed {
        leg: LegId,
        participant: ParticipantId,
        target: Target,
    },
    LegConnected {
        leg: LegId,
        snapshot: Snapshot,
    },
    LegReshaped {
        leg: LegId,
        snapshot: Snapshot,
    },
    /// The process that talked to it ended; the switch is to take it up again.
    LegInterrupted {
        leg: LegId,
        resume_by: Timestamp,
    },
    LegResumed {
        leg: LegId,
        snapshot: Snapshot,
    },
    LegEnding {
        leg: LegId,
        cause: Cause,
        give_up_at: Timestamp,
    },
    LegLent {
        leg: LegId,
        to: ConferenceId,
        invitation: ParticipantId,
        ask_at: Timestamp,
    },
    /// The other conference does not take it.
    LegKept {
        leg: LegId,
    },
    /// The other conference has it.
    LegGiven {
        leg: LegId,
        to: ConferenceId,
    },
    /// From another conference, connected.
    LegTaken {
        leg: LegId,
        participant: ParticipantId,
        target: Target,
        snapshot: Snapshot,
        epoch: u32,
    },
    LegGone {
        leg: LegId,
    },

    OperationStarted {
        operation: OperationId,
        call: CallId,
        at: Timestamp,
        client_context: Option<String>,
        repeat: Repeat,
        invited: Vec<Invited>,
        /// One who did not come makes it fail (OQ-6).
        all_or_failed: bool,
    },
    InvitationSent {
        participant: ParticipantId,
        identity: Identity,
        hidden: bool,
        arrival: Arrival,
        until: Timestamp,
        purpose: Purpose,
    },
    InvitationFailed {
        participant: ParticipantId,
        purpose: Purpose,
        cause: Cause,
    },
    OperationCompleted {
        operation: OperationId,
        at: Timestamp,
    },
    OperationFailed {
        operation: OperationId,
        at: Timestamp,
        because: Option<Cause>,
    },
    /// Too long ago to be asked for again.
    OperationForgotten {
        operation: OperationId,
    },

    /// `answers` is the invitation's purpose; an application that joins a meeting answers nobody.
    ParticipantJoined {
        participant: ParticipantId,
        identity: Identity,
        leg: LegId,
        hidden: bool,
        answers: Purpose,
    },
    ParticipantLeft {
        participant: ParticipantId,
        identity: Identity,
        cause: Cause,
    },
    /// Nobody but applications is left since then.
    Deserted {
        since: Timestamp,
    },
    /// A delta of the roster is owed to this call, which gets them (ROS-3).
    DeltaTold {
        call: CallId,
    },

    MessageSent {
        to: ConferenceId,
        number: u64,
        message: Message,
    },
    MessageDone {
        to: ConferenceId,
        number: u64,
    },
    MessageTaken {
        from: ConferenceId,
        number: u64,
    },
    /// Everybody has gone and nothing is owed to anyone: the last event.
    Closed,
}

/// What is to be done, once its events are on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    Leg(LegId, LegAction),
    Mix(MixPlan),
    /// Send until acknowledged.
    Tell {
        to: ConferenceId,
        number: u64,
        message: Message,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LegAction {
    Dial(Target),
    /// Dial what an earlier process dialled: the same INVITEs, so that a phone that rings goes on ringing. Whoever
    /// answers may have answered the earlier offer.
    DialAgain(Target),
    /// Talk on in the dialog of an earlier process. Answered by `Resumed` or `HungUp`.
    Resume {
        snapshot: Snapshot,
        target: Target,
    },
    /// Acknowledge the endpoint's answer: it is written down.
    Confirm,
    /// The snapshot finds the dialog of an earlier process; the target, an INVITE of one.
    HangUp {
        cause: Cause,
        snapshot: Option<Snapshot>,
        target: Option<Target>,
    },
}

/// Who hears whom, said as a whole: everyone who speaks is heard by everyone else who hears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixPlan {
    pub ports: Vec<MixPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MixPort {
    pub leg: LegId,
    /// See `Leg::epoch`.
    pub epoch: u32,
    pub speaks: bool,
    pub hears: bool,
}

/// The consequences of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub events: Vec<Event>,
    pub effects: Vec<Effect>,
    pub answer: Answer,
}

/// What the client's reply is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    Done,
    Call(CallId),
    /// A repeated request is answered with the operation as it stands, a first one as running (INV-11, INV-33).
    Operation {
        operation: OperationId,
        repeated: bool,
    },
}

/// Why a client may not. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("Call not found.")]
    NoSuchCall,
    #[error("Participant not found.")]
    NoSuchParticipant,
    #[error("The call is not established yet.")]
    NotEstablished,
    #[error("The call is terminating.")]
    Terminating,
    /// INV-5.
    #[error("The call is not a group call: invite one participant at a time.")]
    NotGroup,
    /// INV-12 under `strict_chat_info`.
    #[error("The group call has no chatInfo: invite one participant at a time.")]
    NoChat,
    /// INV-6.
    #[error("Inviting more than one bot to a meeting or group call isn't allowed.")]
    SecondBot,
    #[error("An application cannot remove itself: delete the call.")]
    Myself,
    #[error("The organizer cannot be removed.")]
    Organizer,
    /// Something else is being done with the same person.
    #[error("The participant is being moved to another call.")]
    Busy,
    /// A limit of `limits.rs`.
    #[error("The conference is full.")]
    Full,
}

impl Outcome {
    pub(crate) fn record(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    pub(crate) fn perform(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}
