//! The INVITE client transaction: RFC 3261 §17.1.1, with the Accepted state of RFC 6026 §7.2.
//!
//! ```text
//!            INVITE sent
//!                |            timer A: send again
//!             Calling ------------------------------> (Calling)
//!        1xx /   |   \ 2xx         timer B: timed out
//!   Proceeding   |    \
//!     |   \ 2xx  |     +--> Accepted --- timer M --> Terminated
//!     |    +-----|-----^      | 2xx: passed up, for each fork
//!     | 300-699  | 300-699: ACK
//!     +------> Completed ------- timer D ---------> Terminated
//! ```

use std::time::Instant;

use super::{Repeat, Timing};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteClientStep {
    Nothing,
    /// Send the INVITE again.
    Resend,
    /// Pass the provisional response up.
    Provisional,
    /// Pass a 2xx up; the user of the transaction acknowledges it, again if it is a repetition.
    Success,
    /// Send the ACK of this transaction and pass the response up.
    Failure,
    /// Send the same ACK again; the response is a repetition.
    Acknowledge,
    /// A 2xx after a failure: a proxy passes on each 2xx, whatever it has said before (RFC 3261 §16.7, step 5). Who calls has
    /// given up, and whoever answers has to be told.
    Late,
    /// Nothing final was heard: the user of the transaction is told (408).
    TimedOut,
    /// The machine has ended and can be dropped.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling { resend: Option<Repeat>, give_up_at: Instant },
    Proceeding,
    Accepted { until: Instant },
    Completed { until: Instant },
    Terminated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct InviteClient {
    timing: Timing,
    reliable: bool,
    state: State,
}

impl InviteClient {
    /// The INVITE has just been sent.
    pub fn new(now: Instant, reliable: bool, timing: Timing) -> Self {
        let resend = (!reliable).then(|| Repeat::starting(now, timing.t1, None));
        Self { timing, reliable, state: State::Calling { resend, give_up_at: now + timing.give_up() } }
    }

    /// A response arrived.
    pub fn received(&mut self, now: Instant, status: u16) -> InviteClientStep {
        match (self.state, status) {
            (State::Calling { .. } | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                InviteClientStep::Provisional
            }
            (State::Calling { .. } | State::Proceeding, 200..=299) => {
                self.state = State::Accepted { until: now + self.timing.give_up() };
                InviteClientStep::Success
            }
            (State::Calling { .. } | State::Proceeding, _) => {
                // Timer D is at least 32 s for unreliable transports and zero for reliable ones.
                let linger = if self.reliable { std::time::Duration::ZERO } else { self.timing.give_up() };
                self.state = State::Completed { until: now + linger };
                InviteClientStep::Failure
            }
            (State::Accepted { .. }, 200..=299) => InviteClientStep::Success,
            (State::Completed { .. }, 300..=699) => InviteClientStep::Acknowledge,
            (State::Completed { .. }, 200..=299) => InviteClientStep::Late,
            (State::Accepted { .. } | State::Completed { .. } | State::Terminated, _) => InviteClientStep::Nothing,
        }
    }

    /// Time has passed; call it again until it answers [`InviteClientStep::Nothing`] or
    /// [`InviteClientStep::Terminated`].
    pub fn time(&mut self, now: Instant) -> InviteClientStep {
        match &mut self.state {
            State::Calling { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                InviteClientStep::TimedOut
            }
            State::Calling { resend: Some(resend), .. } if resend.at <= now => {
                resend.again(now);
                InviteClientStep::Resend
            }
            State::Accepted { until } | State::Completed { until } if *until <= now => {
                self.state = State::Terminated;
                InviteClientStep::Terminated
            }
            State::Terminated => InviteClientStep::Terminated,
            State::Calling { .. } | State::Proceeding | State::Accepted { .. } | State::Completed { .. } => {
                InviteClientStep::Nothing
            }
        }
    }

    /// When [`Self::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Calling { resend, give_up_at } => {
                Some(resend.map_or(give_up_at, |repeat| repeat.at.min(give_up_at)))
            }
            State::Proceeding | State::Terminated => None,
            State::Accepted { until } | State::Completed { until } => Some(until),
        }
    }

    /// No final response has been heard.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Calling { .. } | State::Proceeding)
    }

    /// A provisional response, but nothing final, has been heard: CANCEL may be sent (RFC 3261 §9.1).
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }

    /// Nothing at all has been heard.
    pub fn is_silent(&self) -> bool {
        matches!(self.state, State::Calling { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{InviteClient, InviteClientStep as Step, Timing};

    fn ms(at: u64) -> Duration {
        Duration::from_millis(at)
    }

    /// Plays `(at, response or time)` and compares the steps.
    fn check(reliable: bool, script: &[(u64, u16, Step)]) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let start = std::time::Instant::now();
        let mut machine = InviteClient::new(start, reliable, Timing::default());
        for (index, &(at, status, ref expected)) in script.iter().enumerate() {
            let now = start + ms(at);
            let step = if status == 0 { machine.time(now) } else { machine.received(now, status) };
            assert_eq!(step, *expected, "line {index}: {at} ms, {status}");
        }
    }

    #[test]
    fn rfc3261_17_1_1_2_retransmits_with_doubling_and_gives_up_after_64_t1() {
        check(
            false,
            &[
                (499, 0, Step::Nothing),
                (500, 0, Step::Resend),
                (1499, 0, Step::Nothing),
                (1500, 0, Step::Resend),
                (3500, 0, Step::Resend),
                (7500, 0, Step::Resend),
                (15500, 0, Step::Resend),
                (31500, 0, Step::Resend),
                (32000, 0, Step::TimedOut),
                (32000, 0, Step::Terminated),
            ],
        );
    }

    #[test]
    fn a_stream_is_not_written_to_twice() {
        check(true, &[(500, 0, Step::Nothing), (31999, 0, Step::Nothing), (32000, 0, Step::TimedOut)]);
    }

    #[test]
    fn a_provisional_response_stops_both_timers() {
        check(
            false,
            &[
                (100, 180, Step::Provisional),
                (500, 0, Step::Nothing),
                (99_000, 0, Step::Nothing),
                (99_001, 183, Step::Provisional),
            ],
        );
    }

    #[test]
    fn a_failure_is_acknowledged_again_until_timer_d() {
        check(
            false,
            &[
                (100, 486, Step::Failure),
                (600, 486, Step::Acknowledge),
                (700, 200, Step::Late),
                (32_099, 0, Step::Nothing),
                (32_100, 0, Step::Terminated),
                (32_200, 486, Step::Nothing),
            ],
        );
        check(true, &[(100, 486, Step::Failure), (100, 0, Step::Terminated)]);
    }

    #[test]
    fn rfc6026_each_success_is_passed_up_until_timer_m() {
        check(
            false,
            &[
                (100, 180, Step::Provisional),
                (200, 200, Step::Success),
                (700, 200, Step::Success),
                (800, 180, Step::Nothing),
                (900, 486, Step::Nothing),
                (32_199, 0, Step::Nothing),
                (32_200, 0, Step::Terminated),
                (32_300, 200, Step::Nothing),
            ],
        );
    }
}
