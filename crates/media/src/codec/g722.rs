//! G.722 at 64 kbit/s: 160 bytes for 320 samples.

use audio_codec::g722::{G722Decoder, G722Encoder};
use audio_codec::{Decoder as _, Encoder as _};

/// Two predictors that follow the sound; a fresh one has caught up within some milliseconds.
pub(crate) struct Encoder(G722Encoder);

impl Encoder {
    pub(crate) fn new() -> Self {
        Self(G722Encoder::new())
    }

    pub(crate) fn restart(&mut self) {
        self.0 = G722Encoder::new();
    }

    pub(crate) fn encode(&mut self, samples: &[i16], bytes: &mut [u8]) -> Option<usize> {
        self.0.encode_into(samples, bytes).ok()
    }
}

/// The other way.
pub(crate) struct Decoder(G722Decoder);

impl Decoder {
    pub(crate) fn new() -> Self {
        Self(G722Decoder::new())
    }

    pub(crate) fn decode(&mut self, packet: &[u8], samples: &mut [i16]) -> Option<usize> {
        self.0.decode_into(packet, samples).ok()
    }
}
