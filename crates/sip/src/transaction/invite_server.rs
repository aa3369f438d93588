//! The INVITE server transaction: RFC 3261 §17.2.1, with the Accepted state of RFC 6026 §7.1.
//!
//! A 2xx is repeated here too, until its ACK arrives (RFC 3261 §13.3.1.4 gives this to the user agent; it is the
//! same clockwork, so it lives where the other repetitions live).

use std::time::{Duration, Instant};

use super::{Repeat, Timing};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteServerStep {
    Nothing,
    /// Send the last response again, if there is one.
    Resend,
    /// The ACK of our final response has arrived.
    Acknowledged,
    /// The ACK of our final response never arrived.
    NotAcknowledged,
    /// The machine has ended and can be dropped.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    /// A 2xx was sent. `resend` ends with the ACK; the state stays to absorb repeated INVITEs.
    Accepted {
        resend: Option<Repeat>,
        until: Instant,
    },
    Completed {
        resend: Option<Repeat>,
        give_up_at: Instant,
    },
    Confirmed {
        until: Instant,
    },
    Terminated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct InviteServer {
    timing: Timing,
    reliable: bool,
    state: State,
}

impl InviteServer {
    /// An INVITE has arrived.
    pub fn new(reliable: bool, timing: Timing) -> Self {
        Self { timing, reliable, state: State::Proceeding }
    }

    /// The user of the transaction responds; whether the response may be sent.
    pub fn respond(&mut self, now: Instant, status: u16) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        match status {
            100..=199 => {}
            200..=299 => {
                // The 2xx is repeated over streams too: it travels end to end (RFC 3261 §13.3.1.4).
                let resend = Some(Repeat::starting(now, self.timing.t1, Some(self.timing.t2)));
                self.state = State::Accepted { resend, until: now + self.timing.give_up() };
            }
            _ => {
                let resend = (!self.reliable).then(|| Repeat::starting(now, self.timing.t1, Some(self.timing.t2)));
                self.state = State::Completed { resend, give_up_at: now + self.timing.give_up() };
            }
        }
        true
    }

    /// The INVITE arrived again.
    pub fn repeated(&mut self) -> InviteServerStep {
        match self.state {
            State::Proceeding | State::Completed { .. } => InviteServerStep::Resend,
            State::Accepted { .. } | State::Confirmed { .. } | State::Terminated => InviteServerStep::Nothing,
        }
    }

    /// An ACK arrived, by the transaction for a failure or by the dialog for a 2xx.
    pub fn acknowledged(&mut self, now: Instant) -> InviteServerStep {
        match &mut self.state {
            State::Completed { .. } => {
                let linger = if self.reliable { Duration::ZERO } else { self.timing.t4 };
                self.state = State::Confirmed { until: now + linger };
                InviteServerStep::Acknowledged
            }
            State::Accepted { resend, .. } if resend.is_some() => {
                *resend = None;
                InviteServerStep::Acknowledged
            }
            State::Proceeding | State::Accepted { .. } | State::Confirmed { .. } | State::Terminated => {
                InviteServerStep::Nothing
            }
        }
    }

    /// Time has passed; call it again until it answers [`InviteServerStep::Nothing`] or
    /// [`InviteServerStep::Terminated`].
    pub fn time(&mut self, now: Instant) -> InviteServerStep {
        match &mut self.state {
            State::Accepted { resend, until } if *until <= now => {
                let confirmed = resend.is_none();
                self.state = State::Terminated;
                if confirmed { InviteServerStep::Terminated } else { InviteServerStep::NotAcknowledged }
            }
            State::Completed { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                InviteServerStep::NotAcknowledged
            }
            State::Accepted { resend: Some(resend), .. } | State::Completed { resend: Some(resend), .. }
                if resend.at <= now =>
            {
                resend.again(now);
                InviteServerStep::Resend
            }
            State::Confirmed { until } if *until <= now => {
                self.state = State::Terminated;
                InviteServerStep::Terminated
            }
            State::Terminated => InviteServerStep::Terminated,
            State::Proceeding | State::Accepted { .. } | State::Completed { .. } | State::Confirmed { .. } => {
                InviteServerStep::Nothing
            }
        }
    }

    /// When [`Self::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Proceeding | State::Terminated => None,
            State::Accepted { resend, until: end } | State::Completed { resend, give_up_at: end } => {
                Some(resend.map_or(end, |repeat| repeat.at.min(end)))
            }
            State::Confirmed { until } => Some(until),
        }
    }

    /// A 2xx was sent.
    pub fn is_accepted(&self) -> bool {
        matches!(self.state, State::Accepted { .. })
    }

    /// No final response was sent.
    pub fn is_proceeding(&self) -> bool {
        self.state == State::Proceeding
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{InviteServer, InviteServerStep as Step, Timing};

    enum Do {
        Respond(u16, bool),
        Repeat(Step),
        Ack(Step),
        Time(Step),
    }

    fn check(reliable: bool, script: &[(u64, Do)]) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let start = Instant::now();
        let mut machine = InviteServer::new(reliable, Timing::default());
        for (index, (at, action)) in script.iter().enumerate() {
            let now = start + Duration::from_millis(*at);
            match action {
                Do::Respond(status, sent) => assert_eq!(machine.respond(now, *status), *sent, "line {index}"),
                Do::Repeat(step) => assert_eq!(machine.repeated(), *step, "line {index}"),
                Do::Ack(step) => assert_eq!(machine.acknowledged(now), *step, "line {index}"),
                Do::Time(step) => assert_eq!(machine.time(now), *step, "line {index}"),
            }
        }
    }

    #[test]
    fn rfc3261_17_2_1_a_failure_is_repeated_until_acknowledged() {
        check(
            false,
            &[
                (0, Do::Respond(180, true)),
                (50, Do::Repeat(Step::Resend)),
                (100, Do::Respond(486, true)),
                (150, Do::Respond(200, false)),
                (600, Do::Time(Step::Resend)),
                (700, Do::Repeat(Step::Resend)),
                (1600, Do::Time(Step::Resend)),
                (1700, Do::Ack(Step::Acknowledged)),
                (1800, Do::Ack(Step::Nothing)),
                (1900, Do::Repeat(Step::Nothing)),
                (6699, Do::Time(Step::Nothing)),
                (6700, Do::Time(Step::Terminated)),
            ],
        );
    }

    #[test]
    fn timer_h_ends_a_failure_nobody_acknowledges() {
        check(
            true,
            &[
                (0, Do::Respond(486, true)),
                (500, Do::Time(Step::Nothing)),
                (32_000, Do::Time(Step::NotAcknowledged)),
                (32_000, Do::Time(Step::Terminated)),
            ],
        );
    }

    #[test]
    fn rfc6026_a_success_absorbs_repeated_invites_and_is_repeated_until_acknowledged() {
        check(
            true,
            &[
                (0, Do::Respond(200, true)),
                (100, Do::Repeat(Step::Nothing)),
                (500, Do::Time(Step::Resend)),
                (1500, Do::Time(Step::Resend)),
                (3500, Do::Time(Step::Resend)),
                (7500, Do::Time(Step::Resend)),
                (11_500, Do::Time(Step::Resend)),
                (11_600, Do::Ack(Step::Acknowledged)),
                (20_000, Do::Time(Step::Nothing)),
                (32_000, Do::Time(Step::Terminated)),
            ],
        );
    }

    #[test]
    fn a_success_nobody_acknowledges_is_reported() {
        check(false, &[(0, Do::Respond(200, true)), (32_000, Do::Time(Step::NotAcknowledged))]);
    }
}
