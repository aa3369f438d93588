//! The non-INVITE client transaction: RFC 3261 §17.1.2.

use std::time::{Duration, Instant};

use super::{Repeat, Timing};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStep {
    Nothing,
    /// Send the request again.
    Resend,
    /// Pass the provisional response up.
    Provisional,
    /// Pass the final response up.
    Final,
    /// Nothing final was heard: the user of the transaction is told (408).
    TimedOut,
    /// The machine has ended and can be dropped.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Trying and Proceeding differ in the interval of retransmission only.
    Trying {
        resend: Option<Repeat>,
        give_up_at: Instant,
    },
    Completed {
        until: Instant,
    },
    Terminated,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Client {
    timing: Timing,
    reliable: bool,
    state: State,
}

impl Client {
    /// The request has just been sent.
    pub fn new(now: Instant, reliable: bool, timing: Timing) -> Self {
        let resend = (!reliable).then(|| Repeat::starting(now, timing.t1, Some(timing.t2)));
        Self { timing, reliable, state: State::Trying { resend, give_up_at: now + timing.give_up() } }
    }

    /// A response arrived.
    pub fn received(&mut self, now: Instant, status: u16) -> ClientStep {
        match &mut self.state {
            State::Trying { resend, .. } if status < 200 => {
                if let Some(resend) = resend {
                    resend.slow_down();
                }
                ClientStep::Provisional
            }
            State::Trying { .. } => {
                let linger = if self.reliable { Duration::ZERO } else { self.timing.t4 };
                self.state = State::Completed { until: now + linger };
                ClientStep::Final
            }
            State::Completed { .. } | State::Terminated => ClientStep::Nothing,
        }
    }

    /// Time has passed; call it again until it answers [`ClientStep::Nothing`] or [`ClientStep::Terminated`].
    pub fn time(&mut self, now: Instant) -> ClientStep {
        match &mut self.state {
            State::Trying { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                ClientStep::TimedOut
            }
            State::Trying { resend: Some(resend), .. } if resend.at <= now => {
                resend.again(now);
                ClientStep::Resend
            }
            State::Completed { until } if *until <= now => {
                self.state = State::Terminated;
                ClientStep::Terminated
            }
            State::Terminated => ClientStep::Terminated,
            State::Trying { .. } | State::Completed { .. } => ClientStep::Nothing,
        }
    }

    /// No final response has been heard.
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Trying { .. })
    }

    /// When [`Self::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Trying { resend, give_up_at } => Some(resend.map_or(give_up_at, |repeat| repeat.at.min(give_up_at))),
            State::Completed { until } => Some(until),
            State::Terminated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Client, ClientStep as Step, Timing};

    fn check(reliable: bool, script: &[(u64, u16, Step)]) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        let start = Instant::now();
        let mut machine = Client::new(start, reliable, Timing::default());
        for (index, &(at, status, ref expected)) in script.iter().enumerate() {
            let now = start + Duration::from_millis(at);
            let step = if status == 0 { machine.time(now) } else { machine.received(now, status) };
            assert_eq!(step, *expected, "line {index}: {at} ms, {status}");
        }
    }

    #[test]
    fn rfc3261_17_1_2_2_retransmits_at_most_every_t2() {
        check(
            false,
            &[
                (500, 0, Step::Resend),
                (1500, 0, Step::Resend),
                (3500, 0, Step::Resend),
                (7500, 0, Step::Resend),
                (11500, 0, Step::Resend),
                (15500, 0, Step::Resend),
                (19500, 0, Step::Resend),
                (23500, 0, Step::Resend),
                (27500, 0, Step::Resend),
                (31500, 0, Step::Resend),
                (32000, 0, Step::TimedOut),
                (32000, 0, Step::Terminated),
            ],
        );
    }

    #[test]
    fn a_provisional_response_slows_retransmission_down() {
        check(
            false,
            &[(100, 100, Step::Provisional), (500, 0, Step::Resend), (4499, 0, Step::Nothing), (4500, 0, Step::Resend)],
        );
    }

    #[test]
    fn a_repeated_final_response_is_absorbed_until_timer_k() {
        check(
            false,
            &[
                (100, 200, Step::Final),
                (200, 200, Step::Nothing),
                (5099, 0, Step::Nothing),
                (5100, 0, Step::Terminated),
            ],
        );
        check(true, &[(500, 0, Step::Nothing), (600, 200, Step::Final), (600, 0, Step::Terminated)]);
    }
}
