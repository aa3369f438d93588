//! G.711 by tables that are reckoned at compile time.
//!
//! µ-law looks at 14 bits of a sample and A-law at 13, so that the encoding tables are 16 and 8 KiB and stay in the
//! processor's first cache; a table of all 65,536 samples would not.

/// The byte of silence in µ-law.
pub(crate) const ULAW_SILENCE: u8 = 0xff;
/// The byte of silence in A-law.
pub(crate) const ALAW_SILENCE: u8 = 0xd5;

static ULAW_DECODED: [i16; 256] = ulaw_decoded();
static ALAW_DECODED: [i16; 256] = alaw_decoded();
static ULAW_ENCODED: [u8; 1 << 14] = ulaw_encoded();
static ALAW_ENCODED: [u8; 1 << 13] = alaw_encoded();

/// Decodes µ-law; the shorter of the two says how much.
pub(crate) fn decode_ulaw(bytes: &[u8], samples: &mut [i16]) {
    for (sample, &byte) in samples.iter_mut().zip(bytes) {
        *sample = ULAW_DECODED[usize::from(byte)];
    }
}

/// Decodes A-law; the shorter of the two says how much.
pub(crate) fn decode_alaw(bytes: &[u8], samples: &mut [i16]) {
    for (sample, &byte) in samples.iter_mut().zip(bytes) {
        *sample = ALAW_DECODED[usize::from(byte)];
    }
}

/// Encodes µ-law; the shorter of the two says how much.
pub(crate) fn encode_ulaw(samples: &[i16], bytes: &mut [u8]) {
    for (byte, &sample) in bytes.iter_mut().zip(samples) {
        // Division and not a shift: magnitudes round towards zero on both sides.
        *byte = ULAW_ENCODED[(sample / 4 + (1 << 13)) as usize & 0x3fff];
    }
}

/// Encodes A-law; the shorter of the two says how much.
pub(crate) fn encode_alaw(samples: &[i16], bytes: &mut [u8]) {
    for (byte, &sample) in bytes.iter_mut().zip(samples) {
        *byte = ALAW_ENCODED[((sample >> 3) + (1 << 12)) as usize & 0x1fff];
    }
}

/// ITU-T G.711 table 2: sign, three bits of chord, four of step; all inverted on the wire.
const fn ulaw_decoded() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !(byte as u8);
        let chord = (code >> 4) & 7;
        let magnitude = (((((code & 0x0f) as i32) << 3) + 0x84) << chord) - 0x84;
        table[byte] = if code & 0x80 == 0 { magnitude as i16 } else { -magnitude as i16 };
        byte += 1;
    }
    table
}

const fn ulaw_encoded() -> [u8; 1 << 14] {
    let mut table = [0; 1 << 14];
    let mut index = 0;
    while index < 1 << 14 {
        let sample = (index as i32 - (1 << 13)) * 4;
        let magnitude = sample.abs();
        let biased = if magnitude > 32_635 { 32_635 } else { magnitude } + 0x84;
        // The chord is the place of the highest bit, counted from bit 7.
        let chord = 24 - biased.leading_zeros();
        let step = (biased >> (chord + 3)) & 0x0f;
        let sign = if sample < 0 { 0x80 } else { 0 };
        table[index] = !((sign | (chord << 4) as i32 | step) as u8);
        index += 1;
    }
    table
}

/// ITU-T G.711 table 1: sign, three bits of chord, four of step; every other bit inverted on the wire.
const fn alaw_decoded() -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte as u8 ^ 0x55;
        let chord = (code >> 4) & 7;
        let step = ((code & 0x0f) as i32) << 4;
        let magnitude = if chord == 0 { step + 8 } else { (step + 0x108) << (chord - 1) };
        table[byte] = if code & 0x80 == 0 { -magnitude as i16 } else { magnitude as i16 };
        byte += 1;
    }
    table
}

const fn alaw_encoded() -> [u8; 1 << 13] {
    let mut table = [0; 1 << 13];
    let mut index = 0;
    while index < 1 << 13 {
        let value = index as i32 - (1 << 12);
        // One's complement, as the recommendation numbers the negative intervals.
        let magnitude = if value < 0 { !value } else { value };
        let chord = if magnitude < 32 { 0 } else { 27 - (magnitude as u32).leading_zeros() };
        let step = if chord == 0 { magnitude >> 1 } else { magnitude >> chord } & 0x0f;
        let sign = if value < 0 { 0 } else { 0x80 };
        table[index] = (sign | (chord << 4) as i32 | step) as u8 ^ 0x55;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_itself() {
        for code in 0..=255_u8 {
            let (mut sample, mut byte) = ([0], [0]);
            decode_ulaw(&[code], &mut sample);
            encode_ulaw(&sample, &mut byte);
            // µ-law has two zeros; the negative one comes back as the positive.
            assert_eq!(byte[0], if code == 0x7f { 0xff } else { code });
            decode_alaw(&[code], &mut sample);
            encode_alaw(&sample, &mut byte);
            assert_eq!(byte[0], code);
        }
    }

    #[test]
    fn an_error_is_at_most_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            let (mut byte, mut back) = ([0], [0]);
            for (encode, decode) in [
                (encode_ulaw as fn(&[i16], &mut [u8]), decode_ulaw as fn(&[u8], &mut [i16])),
                (encode_alaw, decode_alaw),
            ] {
                encode(&[sample], &mut byte);
                decode(&byte, &mut back);
                let error = (i32::from(sample) - i32::from(back[0])).abs();
                assert!(error <= i32::from(sample).abs() / 30 + 16, "{sample} came back as {}", back[0]);
            }
        }
    }

    #[test]
    fn silence_and_the_loudest_have_the_bytes_of_the_recommendation() {
        let mut bytes = [0; 3];
        encode_ulaw(&[0, i16::MAX, i16::MIN], &mut bytes);
        assert_eq!(bytes, [ULAW_SILENCE, 0x80, 0x00]);
        encode_alaw(&[0, i16::MAX, i16::MIN], &mut bytes);
        assert_eq!(bytes, [ALAW_SILENCE, 0xaa, 0x2a]);
    }
}
