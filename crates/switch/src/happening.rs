//! What a person who watches would like to know, as it happens: the demo's timeline.

use std::fmt;

use control::{ConferenceId, LegId};

/// One line of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    pub leg: LegId,
    /// The conference that owns the leg.
    pub conference: ConferenceId,
    /// Whom the leg connects: `front-desk@contoso.example`, `+12065550100`.
    pub who: String,
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// INVITE sent to so many contacts or trunks.
    InviteSent { branches: usize },
    /// 180 or 183.
    Rings { status: u16 },
    /// 200 OK, and the codec agreed on.
    Answered { codec: &'static str },
    /// ACK sent.
    Acknowledged,
    /// Taken up from an earlier process: the phone is still in its dialog.
    Resumed,
    /// The first packet of audio.
    MediaUp,
    /// Put into its first room.
    Attached,
    /// Moved here from another room, without a new dialog.
    Reattached { from: ConferenceId },
    /// On hold, or back.
    Held(bool),
    /// A key was pressed.
    Tone(char),
    /// About once a second: how loud the leg speaks and how loud what it hears is, dBov.
    Levels { speaks_dbov: f32, hears_dbov: f32 },
    /// A final status other than 2xx.
    Refused { status: u16 },
    /// CANCEL sent.
    Cancelled,
    /// BYE, ours or theirs.
    HungUp { by_peer: bool },
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = &self.who;
        match &self.what {
            What::InviteSent { branches: 1 } => write!(f, "INVITE → {who}"),
            What::InviteSent { branches } => write!(f, "INVITE → {who} on {branches} devices"),
            What::Rings { status } => write!(f, "{status} ← {who}"),
            What::Answered { codec } => write!(f, "200 OK ← {who}, {codec}"),
            What::Acknowledged => write!(f, "ACK → {who}"),
            What::Resumed => write!(f, "{who} is still there"),
            What::MediaUp => write!(f, "audio ← {who}"),
            What::Attached => write!(f, "{who} joins the mix"),
            What::Reattached { .. } => write!(f, "{who} is re-attached to another mix"),
            What::Held(true) => write!(f, "{who} puts us on hold"),
            What::Held(false) => write!(f, "{who} takes us off hold"),
            What::Tone(key) => write!(f, "{who} presses {key}"),
            What::Levels { speaks_dbov, hears_dbov } => {
                write!(f, "{who} speaks at {speaks_dbov:.0} dB and hears {hears_dbov:.0} dB")
            }
            What::Refused { status } => write!(f, "{status} ← {who}"),
            What::Cancelled => write!(f, "CANCEL → {who}"),
            What::HungUp { by_peer: true } => write!(f, "BYE ← {who}"),
            What::HungUp { by_peer: false } => write!(f, "BYE → {who}"),
        }
    }
}
