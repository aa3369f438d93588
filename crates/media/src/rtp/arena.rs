//! Payloads that wait, in one piece of memory: small ones side by side, so that room for a few large ones is enough.

use crate::limits::JITTER_BYTES_MAX;

/// What is given out at once. An Opus packet of speech takes two, one of G.711 three.
const CHUNK_BYTES: usize = 64;
const CHUNKS: usize = JITTER_BYTES_MAX / CHUNK_BYTES;

/// Takes all its memory when it is made.
#[derive(Debug)]
pub(super) struct Arena {
    /// Zeroed by the system, page by page, when it is first written to.
    bytes: Box<[u8]>,
    /// One bit for each chunk that is taken.
    taken: [u64; CHUNKS.div_ceil(64)],
}

/// Where a payload lies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    first_chunk: u16,
    length: u16,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; JITTER_BYTES_MAX].into_boxed_slice(), taken: [0; CHUNKS.div_ceil(64)] }
    }

    /// Copies a payload to the first place that is large enough: memory used last is in the processor's cache. None:
    /// there is no such place.
    pub(super) fn keep(&mut self, payload: &[u8]) -> Option<Place> {
        let wanted = chunks(payload.len());
        let mut free = 0;
        for chunk in 0..CHUNKS {
            free = if self.is_taken(chunk) { 0 } else { free + 1 };
            if free == wanted {
                let first = chunk + 1 - wanted;
                (first..=chunk).for_each(|chunk| self.taken[chunk / 64] |= 1 << (chunk % 64));
                self.bytes[first * CHUNK_BYTES..][..payload.len()].copy_from_slice(payload);
                return Some(Place { first_chunk: first as u16, length: payload.len() as u16 });
            }
        }
        None
    }

    /// Gives a place back. What lies there stays readable until the next is kept.
    pub(super) fn release(&mut self, place: Place) {
        let first = usize::from(place.first_chunk);
        for chunk in first..first + chunks(place.length.into()) {
            self.taken[chunk / 64] &= !(1 << (chunk % 64));
        }
    }

    pub(super) fn read(&self, place: Place) -> &[u8] {
        &self.bytes[usize::from(place.first_chunk) * CHUNK_BYTES..][..usize::from(place.length)]
    }

    fn is_taken(&self, chunk: usize) -> bool {
        self.taken[chunk / 64] >> (chunk % 64) & 1 == 1
    }
}

/// A packet without payload takes a place too.
fn chunks(bytes: usize) -> usize {
    bytes.div_ceil(CHUNK_BYTES).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_full_when_it_is_full_and_whole_again_afterwards() {
        let mut arena = Arena::new();
        let largest = crate::limits::OPUS_PAYLOAD_BYTES_MAX;
        for round in 0..3_u8 {
            let kept: Vec<Place> = std::iter::from_fn(|| arena.keep(&vec![round; largest])).collect();
            // 240 ms of the largest packets of 20 ms.
            assert!(kept.len() >= 12);
            assert!(kept.iter().all(|place| arena.read(*place) == vec![round; largest]));
            for place in kept {
                arena.release(place);
            }
        }
        assert_eq!(arena.taken, [0; CHUNKS.div_ceil(64)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_kept_stays_as_it_was(steps in prop::collection::vec((0..1_277_usize, any::<prop::sample::Index>()), 0..200)) {
            let mut arena = Arena::new();
            let mut kept: Vec<(Place, Vec<u8>)> = Vec::new();
            for (number, (length, which)) in steps.into_iter().enumerate() {
                let payload = vec![number as u8; length];
                match arena.keep(&payload) {
                    Some(place) => kept.push((place, payload)),
                    None => arena.release(kept.swap_remove(which.index(kept.len())).0),
                }
                for (place, payload) in &kept {
                    prop_assert_eq!(arena.read(*place), &payload[..]);
                }
            }
        }
    }
}
