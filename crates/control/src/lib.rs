//! Call control: what a conference is. It decides; it owns no socket, file, clock, task or random number.
//!
//! Four words carry everything: a [`Command`] is what a client asks and may be refused; a [`Signal`] is what the world
//! reports; an [`Event`] is what has happened, written down and replayed; an [`Effect`] is what is to be done once that
//! is written. [`Conference::handle`] takes one input to its [`Outcome`]; [`Conference::apply`] makes an event true, live
//! and on replay alike; [`Conference::deadline`] says when to come back with [`Signal::Time`].

mod call;
mod cause;
mod conference;
mod identity;
mod ids;
mod leg;
pub mod limits;
mod message;
mod notice;
mod operation;
mod roster;
mod vocabulary;

pub use call::{Audio, Call, CallFacts, CallState, Surface};
pub use cause::Cause;
pub use conference::{Conference, Kind, Opened};
pub use identity::{Identity, PhoneNumber, Principal, Who};
pub use ids::{
    AppId, CallId, ChainId, ConferenceId, LegId, OperationId, ParticipantId, ScenarioId, TenantId, Timestamp, UserId,
};
pub use leg::{Caller, Destination, Leg, LegState, Snapshot, Target};
pub use message::{Borrowed, Message};
pub use notice::{Delta, News, Notice, Shown, ends, notices};
pub use operation::{Arrival, Fate, Invitation, Invited, Invitee, Operation, Purpose, Reach, Repeat, Status};
pub use roster::{Participant, Presence, Roster};
pub use vocabulary::{
    Answer, Command, Effect, Event, Input, Invite, InvitePolicy, LegAction, LegNews, Meeting, MixPlan, MixPort,
    Outcome, Refusal, Signal,
};
