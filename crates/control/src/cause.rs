//! Why something ended or did not come about. The numbers that Graph gives these are the API's business (contract 6.3).

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    // An endpoint that did not come.
    /// SIP 600 and 603.
    Declined,
    /// SIP 486.
    Busy,
    /// Rang until its time was up.
    NoAnswer,
    /// SIP 408: no signalling came back at all.
    NoSignalling,
    /// SIP 480.
    Unavailable,
    /// SIP 404, or no device is registered.
    NotRegistered,
    /// No trunk takes the number, or every one failed (5xx, timeout).
    NoRoute,
    /// Any other final SIP status.
    Status(u16),
    /// The invitation was withdrawn.
    Cancelled,

    // An invitation that could not be made.
    UnknownUser,
    /// The call has no application instance with a phone number to call from (INV-22).
    NoCallerNumber,
    /// A bot cannot be reached: it takes no calls.
    BotUnreachable,
    /// On the roster or ringing already (INV-23).
    AlreadyHere,
    /// `replacesCallId` names no live call of this application with this person (OQ-1).
    NotReplaceable,
    /// `participantId` is not on the roster it is to be moved from.
    NotInSource,
    /// Whoever is to be moved is being moved already.
    BeingMoved,
    /// The application wants to handle its media itself, in a form that nobody here speaks (OQ-8).
    AppHostedMedia,

    // An end.
    /// The application deleted its call.
    HungUpByApp,
    /// The far end hung up.
    PeerHungUp {
        phone: bool,
    },
    /// Removed from the roster by an application.
    Removed,
    /// Moved to another conference (OQ-3).
    Moved,
    /// Nobody but applications remained (CALL-6).
    Alone,
    /// No keep-alive within 45 minutes (contract 3.8).
    KeepAliveExpired,
    /// Media could not be agreed on or never flowed.
    MediaFailed,
    /// The process that held the call ended.
    ServiceRestarted,
    /// Something of ours broke.
    Internal,
}
