//! A phone's media: one port, something to say, and what it hears.

use std::time::Instant;

use crate::dtmf::Tone;
use crate::frame::Frame;
use crate::port::{Events, LegStats, Port, Received};
use crate::tone::{Clip, Sine, Speech};

/// What an endpoint says.
#[derive(Debug, Clone)]
pub enum Source {
    /// Nothing: packets of silence.
    Silence,
    /// A steady tone.
    Tone(Sine),
    /// Something that sounds like speech.
    Speech(Box<Speech>),
    /// Recorded sound.
    Clip(Clip),
}

impl Source {
    /// Writes the next 20 ms.
    pub fn next(&mut self, frame: &mut Frame) {
        match self {
            Self::Silence => *frame = Frame::SILENCE,
            Self::Tone(tone) => tone.next(frame),
            Self::Speech(speech) => speech.next(frame),
            Self::Clip(clip) => clip.next(frame),
        }
    }
}

/// A softphone's media. Turn it every 20 ms.
#[derive(Debug)]
pub struct Endpoint {
    port: Box<Port>,
    source: Source,
    spoken: Frame,
    heard: Frame,
}

impl Endpoint {
    /// A phone that says `source` through `port`.
    pub fn new(port: Box<Port>, source: Source) -> Self {
        Self { port, source, spoken: Frame::SILENCE, heard: Frame::SILENCE }
    }

    /// Says something else from the next tick on.
    pub fn say(&mut self, source: Source) {
        self.source = source;
    }

    /// Takes one datagram.
    pub fn receive(&mut self, now: Instant, packet: &[u8]) -> Received {
        self.port.receive(now, packet)
    }

    /// Hears and says 20 ms; emits RTP.
    pub fn tick(&mut self, now: Instant, emit: &mut dyn FnMut(&[u8])) {
        self.port.pull(now, &mut self.heard);
        self.source.next(&mut self.spoken);
        self.port.push(&self.spoken, emit);
    }

    /// What was heard in the last tick; silence if nothing was.
    pub fn heard(&self) -> &Frame {
        &self.heard
    }

    /// Presses a key. False: the peer takes none.
    pub fn send_tone(&mut self, tone: Tone, duration_ms: u32) -> bool {
        self.port.send_tone(tone, duration_ms)
    }

    /// Keys heard and the first packet.
    pub fn take_events(&mut self) -> Events {
        self.port.take_events()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> LegStats {
        self.port.stats()
    }

    /// The port, for hold, re-negotiation and RTCP.
    pub fn port_mut(&mut self) -> &mut Port {
        &mut self.port
    }
}
