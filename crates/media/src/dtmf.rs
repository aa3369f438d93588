//! Telephone keys as named events in RTP (RFC 4733), both ways.

use crate::limits::TONES_QUEUED_MAX;

/// A telephone key, or the hook flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tone(u8);

impl Tone {
    /// The hook flash, event 16.
    pub const FLASH: Self = Self(16);

    /// The tone of an event code (RFC 4733 §3.2), if it is a key or the flash.
    pub const fn from_event(code: u8) -> Option<Self> {
        if code <= 16 { Some(Self(code)) } else { None }
    }

    /// The event code.
    pub const fn event(self) -> u8 {
        self.0
    }

    /// The tone of a key: `0`–`9`, `*`, `#`, `A`–`D` (in any case), `!` for the flash.
    pub fn from_key(key: char) -> Option<Self> {
        KEYS.find(key.to_ascii_uppercase()).map(|index| Self(index as u8))
    }

    /// The key as a character.
    pub fn key(self) -> char {
        char::from(KEYS.as_bytes()[usize::from(self.0)])
    }
}

/// The keys in the order of their event codes.
const KEYS: &str = "0123456789*#ABCD!";

/// Hears keys. An event is told once, when its first packet comes, whichever of its packets that is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receiver {
    last: Option<Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    timestamp: u32,
    event: u8,
    duration: u16,
    ended: bool,
}

impl Receiver {
    /// Takes the payload of a packet and its timestamp; a tone if it is a new one. `None` inside for an event that is
    /// known already or is no key.
    pub fn receive(&mut self, timestamp: u32, payload: &[u8]) -> Result<Option<Tone>, crate::rtp::packet::Malformed> {
        let &[event, flags, high, low, ..] = payload else { return Err(crate::rtp::packet::Malformed) };
        let duration = u16::from_be_bytes([high, low]);
        let heard = Heard { timestamp, event, duration, ended: flags & 0x80 != 0 };
        let Some(last) = &mut self.last else {
            self.last = Some(heard);
            return Ok(Tone::from_event(event));
        };
        let since = timestamp.wrapping_sub(last.timestamp);
        if since == 0 {
            last.duration = last.duration.max(duration);
            last.ended |= heard.ended;
            return Ok(None);
        }
        if since > u32::MAX / 2 {
            // A packet of an earlier event, overtaken.
            return Ok(None);
        }
        // RFC 4733 §2.5.1.3: a key held longer than the duration can say goes on as another segment.
        let goes_on = !last.ended && last.event == event && last.duration > 0xff00 && since == u32::from(last.duration);
        *last = heard;
        Ok(if goes_on { None } else { Tone::from_event(event) })
    }
}

/// Presses keys, one after the other, a packet a tick.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    queue: [(Tone, u16); TONES_QUEUED_MAX],
    first: usize,
    count: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Sounding { tone: Tone, ticks: u16, last: u16, timestamp: u32 },
    Ending { tone: Tone, duration: u16, timestamp: u32, left: u8 },
    Pause { left: u8 },
}

/// One telephone-event packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// When the key went down, for all packets of one event.
    pub(crate) timestamp: u32,
    /// Set on the first packet.
    pub(crate) marker: bool,
    pub(crate) payload: [u8; 4],
}

impl Sender {
    /// RFC 4733 §2.5.1.4: the last packet is sent three times.
    const END_PACKETS: u8 = 3;
    /// 80 ms between two keys: some receivers take a shorter one for none.
    const PAUSE_TICKS: u8 = 4;
    /// −10 dBm0, the level most phones use.
    const VOLUME: u8 = 10;

    pub(crate) fn new() -> Self {
        Self { queue: [(Tone::FLASH, 0); TONES_QUEUED_MAX], first: 0, count: 0, state: State::Idle }
    }

    /// Queues a key of that many ticks. False: too many wait.
    pub(crate) fn press(&mut self, tone: Tone, ticks: u16) -> bool {
        if self.count == TONES_QUEUED_MAX {
            return false;
        }
        self.queue[(self.first + self.count) % TONES_QUEUED_MAX] = (tone, ticks.max(2));
        self.count += 1;
        true
    }

    /// The packet to send in this tick in the place of sound, if a key is down.
    pub(crate) fn tick(&mut self, timestamp: u32, per_tick: u32) -> Option<Event> {
        match self.state {
            State::Idle if self.count == 0 => None,
            State::Idle => {
                let (tone, ticks) = self.queue[self.first];
                self.first = (self.first + 1) % TONES_QUEUED_MAX;
                self.count -= 1;
                // A duration has 16 bits: 8 s at 8 kHz, 1.3 s at 48.
                let last = ticks.min((0xffff / per_tick) as u16);
                self.state = State::Sounding { tone, ticks: 1, last, timestamp };
                Some(event(tone, timestamp, per_tick as u16, true, false))
            }
            State::Sounding { tone, ticks, last, timestamp } => {
                let duration = (u32::from(ticks + 1) * per_tick) as u16;
                let ends = ticks + 1 >= last;
                self.state = if ends {
                    State::Ending { tone, duration, timestamp, left: Self::END_PACKETS - 1 }
                } else {
                    State::Sounding { tone, ticks: ticks + 1, last, timestamp }
                };
                Some(event(tone, timestamp, duration, false, ends))
            }
            State::Ending { tone, duration, timestamp, left } => {
                self.state = if left > 1 {
                    State::Ending { tone, duration, timestamp, left: left - 1 }
                } else {
                    State::Pause { left: Self::PAUSE_TICKS }
                };
                Some(event(tone, timestamp, duration, false, true))
            }
            State::Pause { left } => {
                self.state = if left > 1 { State::Pause { left: left - 1 } } else { State::Idle };
                None
            }
        }
    }
}

fn event(tone: Tone, timestamp: u32, duration: u16, marker: bool, end: bool) -> Event {
    let [high, low] = duration.to_be_bytes();
    let flags = u8::from(end) << 7 | Sender::VOLUME;
    Event { timestamp, marker, payload: [tone.event(), flags, high, low] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a sender sends until it has been idle for a while.
    fn sent(sender: &mut Sender, per_tick: u32) -> Vec<Event> {
        (0..200_u32).filter_map(|tick| sender.tick(5_000 + tick * per_tick, per_tick)).collect()
    }

    #[test]
    fn a_key_is_a_marker_growing_durations_and_three_ends() {
        for per_tick in [160, 960] {
            let mut sender = Sender::new();
            assert!(sender.press(Tone::from_key('#').unwrap(), 5));
            let events = sent(&mut sender, per_tick);
            let durations: Vec<u32> = events
                .iter()
                .map(|event| u32::from(u16::from_be_bytes([event.payload[2], event.payload[3]])) / per_tick)
                .collect();
            assert_eq!(durations, [1, 2, 3, 4, 5, 5, 5]);
            assert!(events.iter().all(|event| event.timestamp == 5_000 && event.payload[0] == 11));
            assert_eq!(events.iter().filter(|event| event.marker).count(), 1);
            assert_eq!(events.iter().filter(|event| event.payload[1] & 0x80 != 0).count(), 3);
        }
    }

    #[test]
    fn each_key_is_heard_once_whatever_is_lost_repeated_or_overtaken() {
        let mut sender = Sender::new();
        for key in "1123*".chars() {
            assert!(sender.press(Tone::from_key(key).unwrap(), 5));
        }
        let events = sent(&mut sender, 160);
        for lost in 0..5 {
            let mut receiver = Receiver::default();
            let mut heard = String::new();
            for (index, event) in events.iter().enumerate() {
                if index % 5 == lost {
                    continue;
                }
                for event in [event, event, &events[index.saturating_sub(6)]] {
                    if let Some(tone) = receiver.receive(event.timestamp, &event.payload).unwrap() {
                        heard.push(tone.key());
                    }
                }
            }
            // The packet six before is of this key or the one before it, and heard already.
            assert_eq!(heard, "1123*");
        }
    }

    #[test]
    fn a_key_held_for_long_is_one_key() {
        let mut receiver = Receiver::default();
        assert!(receiver.receive(0, &[5, 10, 0xff, 0xff]).unwrap().is_some());
        assert!(receiver.receive(0xffff, &[5, 10, 0, 160]).unwrap().is_none());
        assert!(receiver.receive(0xffff, &[5, 0x8a, 1, 0]).unwrap().is_none());
        assert!(receiver.receive(0x2_0000, &[5, 10, 0, 160]).unwrap().is_some());
    }

    #[test]
    fn what_is_no_key_is_no_tone() {
        let mut receiver = Receiver::default();
        assert!(receiver.receive(0, &[5, 10, 0]).is_err());
        assert_eq!(receiver.receive(0, &[32, 10, 0, 160]), Ok(None));
        assert_eq!(Tone::from_key('x'), None);
        assert_eq!(Tone::from_key('d').map(Tone::event), Some(15));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut sender = Sender::new();
        let pressed = (0..1_000).filter(|_| sender.press(Tone::FLASH, 5)).count();
        assert_eq!(pressed, TONES_QUEUED_MAX);
    }
}
