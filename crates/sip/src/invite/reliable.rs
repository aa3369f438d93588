//! Provisional responses that have to arrive (RFC 3262): what the calling side takes, what the called side repeats.

use std::collections::VecDeque;
use std::time::Instant;

use crate::transaction::{Repeat, Timing};

/// Highest RSeq of a first response, RFC 3262 §3: room is left for those that follow.
pub const FIRST_RSEQ_MAX: u32 = (1 << 31) - 1;

/// The calling side of one early dialog: which response is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    last: u32,
}

impl Expected {
    /// The first response has arrived; whatever number it has is where counting begins.
    pub fn after(first: u32) -> Self {
        Self { last: first }
    }

    /// Whether a response with this number is the next one. Any other is a repetition or came too early: it is
    /// neither acknowledged nor looked at (RFC 3262 §4).
    pub fn take(&mut self, rseq: u32) -> bool {
        let is_next = self.last.checked_add(1) == Some(rseq);
        if is_next {
            self.last = rseq;
        }
        is_next
    }
}

/// One provisional response to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisional {
    pub status: u16,
    /// The answer to the offer of the INVITE. What is said reliably is said for good.
    pub sdp: Option<Vec<u8>>,
}

/// What is due on the called side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisionalStep {
    Nothing,
    /// Send the response that waits for its PRACK again.
    Resend,
    /// PRACK never came: the INVITE is refused with a 5xx.
    GiveUp,
}

/// The called side of one INVITE: one response at a time is repeated until PRACK acknowledges it.
#[derive(Clone, Debug)]
pub struct Provisionals {
    timing: Timing,
    next_rseq: u32,
    sent: Option<Sent>,
    waiting: VecDeque<Provisional>,
    waiting_max: usize,
    answer: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    rseq: u32,
    repeat: Repeat,
    give_up_at: Instant,
    has_sdp: bool,
}

impl Provisionals {
    /// Nothing sent. `first_rseq` is from 1 to [`FIRST_RSEQ_MAX`].
    pub fn new(first_rseq: u32, waiting_max: usize, timing: Timing) -> Self {
        let next_rseq = first_rseq.clamp(1, FIRST_RSEQ_MAX);
        Self { timing, next_rseq, sent: None, waiting: VecDeque::new(), waiting_max, answer: None }
    }

    /// One more; it is left out if too many wait.
    pub fn push(&mut self, provisional: Provisional) {
        if self.waiting.len() < self.waiting_max {
            self.waiting.push_back(provisional);
        }
    }

    /// The next response to send and its RSeq, if none waits for its PRACK. Only the first description is said.
    pub fn next(&mut self, now: Instant) -> Option<(u32, Provisional)> {
        if self.sent.is_some() {
            return None;
        }
        let mut provisional = self.waiting.pop_front()?;
        if self.answer.is_some() {
            provisional.sdp = None;
        } else {
            self.answer.clone_from(&provisional.sdp);
        }
        let rseq = self.next_rseq;
        self.next_rseq += 1;
        // RFC 3262 §3: from T1 on, doubled each time, over streams too.
        let repeat = Repeat::starting(now, self.timing.t1, None);
        let give_up_at = now + self.timing.give_up();
        self.sent = Some(Sent { rseq, repeat, give_up_at, has_sdp: provisional.sdp.is_some() });
        Some((rseq, provisional))
    }

    /// A PRACK for this number arrived; `false` if nothing of that number waits for one.
    pub fn acknowledged(&mut self, rseq: u32) -> bool {
        self.sent.take_if(|sent| sent.rseq == rseq).is_some()
    }

    /// The number that waits for its PRACK.
    pub fn unacknowledged(&self) -> Option<u32> {
        self.sent.map(|sent| sent.rseq)
    }

    /// A 2xx has to wait: the answer is on its way, and nobody knows that it has arrived (RFC 3262 §3).
    pub fn holds_success(&self) -> bool {
        self.sent.is_some_and(|sent| sent.has_sdp)
    }

    /// The answer that was said.
    pub fn answer(&self) -> Option<&[u8]> {
        self.answer.as_deref()
    }

    /// Time has passed.
    pub fn time(&mut self, now: Instant) -> ProvisionalStep {
        match &mut self.sent {
            Some(sent) if sent.give_up_at <= now => ProvisionalStep::GiveUp,
            Some(sent) if sent.repeat.at <= now => {
                sent.repeat.again(now);
                ProvisionalStep::Resend
            }
            Some(_) | None => ProvisionalStep::Nothing,
        }
    }

    /// When [`Self::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.sent.map(|sent| sent.repeat.at.min(sent.give_up_at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Expected, Provisional, ProvisionalStep as Step, Provisionals};
    use crate::transaction::Timing;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the start of a turned clock")]
        Instant::now()
    }

    fn plain(status: u16) -> Provisional {
        Provisional { status, sdp: None }
    }

    #[test]
    fn rfc3262_4_only_the_next_number_is_acknowledged() {
        let mut expected = Expected::after(7);
        assert_eq!([7, 9, 6, 8, 8, 9].map(|rseq| expected.take(rseq)), [false, false, false, true, false, true]);
        assert!(!Expected::after(u32::MAX).take(0));
    }

    #[test]
    fn rfc3262_3_a_response_is_repeated_until_its_prack_and_given_up_after_64_t1() {
        let start = start();
        let at = |ms| start + Duration::from_millis(ms);
        let mut provisionals = Provisionals::new(5, 4, Timing::default());
        provisionals.push(plain(180));
        assert_eq!(provisionals.next(start), Some((5, plain(180))));
        let mut resent = Vec::new();
        loop {
            let due = provisionals.deadline().unwrap();
            match provisionals.time(due) {
                Step::Resend => resent.push(due.duration_since(start).as_millis()),
                Step::GiveUp => break assert_eq!(due, at(32_000)),
                Step::Nothing => panic!("nothing at its deadline"),
            }
        }
        assert_eq!(resent, [500, 1500, 3500, 7500, 15_500, 31_500]);
    }

    #[test]
    fn the_next_response_waits_for_the_prack_of_the_one_before() {
        let now = start();
        let mut provisionals = Provisionals::new(1, 2, Timing::default());
        let answer = Provisional { status: 183, sdp: Some(b"v=0".to_vec()) };
        provisionals.push(plain(180));
        provisionals.push(answer.clone());
        provisionals.push(plain(199));
        assert_eq!(provisionals.next(now), Some((1, plain(180))));
        assert_eq!((provisionals.next(now), provisionals.holds_success()), (None, false));
        assert!(!provisionals.acknowledged(2));
        assert!(provisionals.acknowledged(1) && !provisionals.acknowledged(1));
        assert_eq!(provisionals.next(now), Some((2, answer.clone())));
        assert!(provisionals.holds_success());
        assert!(provisionals.acknowledged(2) && !provisionals.holds_success());
        assert_eq!(provisionals.answer(), answer.sdp.as_deref());
        // The 199 found no room.
        assert_eq!((provisionals.next(now), provisionals.deadline()), (None, None));
        provisionals.push(answer);
        assert_eq!(provisionals.next(now), Some((3, plain(183))));
    }
}
