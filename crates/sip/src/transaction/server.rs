//! The non-INVITE server transaction: RFC 3261 §17.2.2.

use std::time::{Duration, Instant};

use super::Timing;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStep {
    Nothing,
    /// Send the last response again, if there is one.
    Resend,
    /// The machine has ended and can be dropped.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Trying or Proceeding. A request that its user never answers is dropped in the end.
    Trying {
        give_up_at: Instant,
    },
    Completed {
        until: Instant,
    },
    Terminated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Server {
    timing: Timing,
    reliable: bool,
    state: State,
}

impl Server {
    /// A request has arrived.
    pub fn new(now: Instant, reliable: bool, timing: Timing) -> Self {
        Self { timing, reliable, state: State::Trying { give_up_at: now + timing.give_up() } }
    }

    /// The user of the transaction responds; whether the response may be sent.
    pub fn respond(&mut self, now: Instant, status: u16) -> bool {
        if !matches!(self.state, State::Trying { .. }) {
            return false;
        }
        if status >= 200 {
            let linger = if self.reliable { Duration::ZERO } else { self.timing.give_up() };
            self.state = State::Completed { until: now + linger };
        }
        true
    }

    /// The request arrived again.
    pub fn repeated(&mut self) -> ServerStep {
        match self.state {
            State::Trying { .. } | State::Completed { .. } => ServerStep::Resend,
            State::Terminated => ServerStep::Nothing,
        }
    }

    /// Time has passed.
    pub fn time(&mut self, now: Instant) -> ServerStep {
        match self.state {
            State::Trying { give_up_at: end } | State::Completed { until: end } if end <= now => {
                self.state = State::Terminated;
                ServerStep::Terminated
            }
            State::Terminated => ServerStep::Terminated,
            State::Trying { .. } | State::Completed { .. } => ServerStep::Nothing,
        }
    }

    /// When [`Self::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Trying { give_up_at: end } | State::Completed { until: end } => Some(end),
            State::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Server, ServerStep as Step, Timing};

    #[test]
    fn rfc3261_17_2_2_a_final_response_is_repeated_until_timer_j() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut machine = Server::new(start, false, Timing::default());
        assert_eq!(machine.repeated(), Step::Resend);
        assert!(machine.respond(at(100), 200));
        assert!(!machine.respond(at(101), 500));
        assert_eq!(machine.repeated(), Step::Resend);
        assert_eq!(machine.time(at(32_099)), Step::Nothing);
        assert_eq!(machine.deadline(), Some(at(32_100)));
        assert_eq!(machine.time(at(32_100)), Step::Terminated);
        assert_eq!(machine.repeated(), Step::Nothing);
    }

    #[test]
    fn nothing_is_kept_after_a_response_over_a_stream() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let start = Instant::now();
        let mut machine = Server::new(start, true, Timing::default());
        assert!(machine.respond(start, 200));
        assert_eq!(machine.time(start), Step::Terminated);
    }
}
