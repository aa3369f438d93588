//! Every bound in the domain, each with its reason.

use std::time::Duration;

/// An invitee rings that long; the API has no setting for it (INV-28).
pub const RING_FOR: Duration = Duration::from_mins(1);

/// A call without a keep-alive for that long is ended (contract 3.8).
pub const KEEP_ALIVE_WITHIN: Duration = Duration::from_mins(45);

/// Audio counts as active when no packet has come that long after the answer (contract 5.1): a phone with silence
/// suppression may say nothing for minutes.
pub const AUDIO_WITHIN: Duration = Duration::from_secs(2);

/// From our BYE or CANCEL to giving the leg up: SIP's timers B and F end every transaction after 32 s.
pub const HANG_UP_WITHIN: Duration = Duration::from_secs(35);

/// From a restart to giving up a leg that nobody reported on: the switch is sooner, as its re-INVITE ends after 32 s
/// and is sent within seconds.
pub const RESUME_WITHIN: Duration = Duration::from_mins(1);

/// An application that deleted its call hears of its end no later than this, whatever the phone does.
pub const TERMINATE_WITHIN: Duration = Duration::from_secs(5);

/// A conference asked to lend a leg answers at once or has died; the invitee is not kept waiting for longer.
pub const BORROW_WITHIN: Duration = Duration::from_secs(10);

/// A conference that lent a leg asks what became of it: later than the borrower gives up by itself.
pub const ASK_AFTER: Duration = Duration::from_secs(15);

/// Applications alone in an ad-hoc group are ended after that long (OQ-12); in a meeting never.
pub const ALONE_FOR: Duration = Duration::from_mins(1);

/// An ended operation can be read for that long (contract 3.17).
pub const OPERATION_VISIBLE_FOR: Duration = Duration::from_mins(1);

/// A repeat of an ended invitation with the same request id is recognised for that long (INV-33).
pub const REPEAT_WITHIN: Duration = Duration::from_mins(10);

/// A `Retry-Attempt` without a request id is a repeat for that long: SDKs give up well before (INV-33).
pub const RETRY_WITHIN: Duration = Duration::from_mins(3);

/// Participants and invitations of one conference: as many as a Graph meeting takes.
pub const PARTICIPANTS_MAX: usize = 1000;

/// Operations remembered per conference: those of ten minutes at one a second.
pub const OPERATIONS_MAX: usize = 1000;
