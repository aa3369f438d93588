//! What a final SIP answer means for the one who was called (contract 6.3).

use control::Cause;
use sip::agent::FailedBecause;

/// What was dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    Line,
    /// Through a trunk.
    Number,
}

/// Why a leg that was dialled never was connected.
pub(crate) fn cause_of(dialled: Dialled, status: u16, because: FailedBecause) -> Cause {
    match (because, dialled) {
        (FailedBecause::RingTimeout, _) => Cause::NoAnswer,
        (FailedBecause::Cancelled, _) => Cause::Cancelled,
        (FailedBecause::Local, _) => Cause::Internal,
        // A trunk that is silent is no route; a phone that is silent has sent no signalling.
        (FailedBecause::Unreachable, Dialled::Number) => Cause::NoRoute,
        (FailedBecause::Unreachable, Dialled::Line) => Cause::NoSignalling,
        (FailedBecause::Refused, _) => match status {
            600 | 603 => Cause::Declined,
            486 => Cause::Busy,
            408 => Cause::NoSignalling,
            480 => Cause::Unavailable,
            404 => Cause::NotRegistered,
            487 => Cause::Cancelled,
            500..=599 => Cause::NoRoute,
            other => Cause::Status(other),
        },
    }
}

/// Whether another trunk may have more luck.
pub(crate) fn is_worth_another_trunk(status: u16, because: FailedBecause) -> bool {
    match because {
        FailedBecause::Unreachable => true,
        FailedBecause::Refused => matches!(status, 408 | 500..=599),
        FailedBecause::RingTimeout | FailedBecause::Cancelled | FailedBecause::Local => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_6_3_of_the_contract() {
        let line = |status| cause_of(Dialled::Line, status, FailedBecause::Refused);
        assert_eq!(line(603), Cause::Declined);
        assert_eq!(line(600), Cause::Declined);
        assert_eq!(line(486), Cause::Busy);
        assert_eq!(line(408), Cause::NoSignalling);
        assert_eq!(line(480), Cause::Unavailable);
        assert_eq!(line(404), Cause::NotRegistered);
        assert_eq!(line(503), Cause::NoRoute);
        assert_eq!(line(487), Cause::Cancelled);
        assert_eq!(line(415), Cause::Status(415));
        assert_eq!(cause_of(Dialled::Line, 408, FailedBecause::RingTimeout), Cause::NoAnswer);
        assert_eq!(cause_of(Dialled::Line, 408, FailedBecause::Unreachable), Cause::NoSignalling);
        assert_eq!(cause_of(Dialled::Number, 408, FailedBecause::Unreachable), Cause::NoRoute);
    }

    #[test]
    fn a_persons_decision_is_not_asked_for_at_another_trunk() {
        assert!(is_worth_another_trunk(503, FailedBecause::Refused));
        assert!(is_worth_another_trunk(408, FailedBecause::Unreachable));
        assert!(!is_worth_another_trunk(486, FailedBecause::Refused));
        assert!(!is_worth_another_trunk(408, FailedBecause::RingTimeout));
    }
}
