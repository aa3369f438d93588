//! WAV files as bytes: 16-bit mono PCM in and out.

use crate::frame::SAMPLE_RATE;
use crate::resample::{kaiser, sinc};

/// Why bytes are no WAV that we play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    /// No RIFF/WAVE header, or chunks that end too early.
    #[error("not a WAV file, or cut short")]
    Malformed,
    /// Something other than 16-bit mono PCM at 8 to 48 kHz.
    #[error("only 16-bit mono PCM at 8,000 to 48,000 Hz is played, not {bits}-bit, {channels} channels, {rate_hz} Hz")]
    Unsupported {
        /// Bits a sample.
        bits: u16,
        /// Channels.
        channels: u16,
        /// Samples a second.
        rate_hz: u32,
    },
}

/// The samples of a WAV file at 16 kHz, whatever its rate.
pub fn read(bytes: &[u8]) -> Result<Vec<i16>, WavError> {
    let mut rest = bytes.get(12..).ok_or(WavError::Malformed)?;
    if &bytes[..4] != b"RIFF" || &bytes[8..12] != b"WAVE" {
        return Err(WavError::Malformed);
    }
    let mut rate_hz = None;
    loop {
        let (head, after) = rest.split_first_chunk::<8>().ok_or(WavError::Malformed)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        // A recording that was never closed says nothing, or all, of its length: then it goes to the end.
        let chunk = &after[..length.min(after.len())];
        match &head[..4] {
            b"fmt " => rate_hz = Some(format(chunk)?),
            b"data" => {
                let data = if length == 0 { after } else { chunk };
                let samples: Vec<i16> = data.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
                return Ok(convert(samples, rate_hz.ok_or(WavError::Malformed)?));
            }
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(length.checked_add(length & 1).ok_or(WavError::Malformed)?..).ok_or(WavError::Malformed)?;
    }
}

/// Reads the `fmt ` chunk and says the rate.
fn format(chunk: &[u8]) -> Result<u32, WavError> {
    const PCM: u16 = 1;
    const EXTENSIBLE: u16 = 0xfffe;
    let fields: &[u8; 16] = chunk.first_chunk().ok_or(WavError::Malformed)?;
    let half = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);
    let rate_hz = u32::from_le_bytes([fields[4], fields[5], fields[6], fields[7]]);
    let (kind, channels, bits) = (half(0), half(2), half(14));
    if !matches!(kind, PCM | EXTENSIBLE) || channels != 1 || bits != 16 || !(8_000..=48_000).contains(&rate_hz) {
        return Err(WavError::Unsupported { bits, channels, rate_hz });
    }
    Ok(rate_hz)
}

/// The length of [`header`].
pub const HEADER_BYTES: usize = 44;

/// The head of a 16 kHz file with that many samples. A streamed recording begins with one for zero samples, and has it
/// written again when it is closed; what was never closed is read to its end.
pub fn header(samples: u32) -> [u8; HEADER_BYTES] {
    let bytes = samples.saturating_mul(2);
    let mut head = [0; HEADER_BYTES];
    head[..4].copy_from_slice(b"RIFF");
    head[4..8].copy_from_slice(&bytes.saturating_add(36).to_le_bytes());
    head[8..16].copy_from_slice(b"WAVEfmt ");
    head[16..20].copy_from_slice(&16_u32.to_le_bytes());
    head[20..22].copy_from_slice(&1_u16.to_le_bytes());
    head[22..24].copy_from_slice(&1_u16.to_le_bytes());
    head[24..28].copy_from_slice(&SAMPLE_RATE.to_le_bytes());
    head[28..32].copy_from_slice(&(SAMPLE_RATE * 2).to_le_bytes());
    head[32..34].copy_from_slice(&2_u16.to_le_bytes());
    head[34..36].copy_from_slice(&16_u16.to_le_bytes());
    head[36..40].copy_from_slice(b"data");
    head[40..].copy_from_slice(&bytes.to_le_bytes());
    head
}

/// A whole 16 kHz WAV file.
pub fn write(samples: &[i16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + samples.len() * 2);
    bytes.extend_from_slice(&header(samples.len() as u32));
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}

/// Converts a whole recording to 16 kHz by a windowed sine cardinal, one filter for each phase between the two rates.
fn convert(samples: Vec<i16>, rate_hz: u32) -> Vec<i16> {
    /// Zero crossings on each side.
    const REACH: usize = 24;
    if rate_hz == SAMPLE_RATE {
        return samples;
    }
    let common = greatest_common_divisor(rate_hz, SAMPLE_RATE);
    let (phases, step) = ((SAMPLE_RATE / common) as usize, (rate_hz / common) as usize);
    // Going down, the filter is as much wider as it must cut earlier.
    let cutoff = (f64::from(SAMPLE_RATE) / f64::from(rate_hz)).min(1.0) * 0.95;
    let reach = (REACH as f64 / cutoff).ceil() as usize;
    let filters: Vec<Vec<f32>> = (0..phases)
        .map(|phase| {
            (0..2 * reach)
                .map(|tap| {
                    let place = tap as f64 - (reach as f64 - 1.0) - phase as f64 / phases as f64;
                    (cutoff * sinc(place * cutoff) * kaiser(place / reach as f64, 6.0)) as f32
                })
                .collect()
        })
        .collect();
    let count = samples.len() * phases / step;
    (0..count)
        .map(|index| {
            let (whole, phase) = (index * step / phases, index * step % phases);
            let sum: f32 = filters[phase]
                .iter()
                .enumerate()
                .filter_map(|(tap, weight)| {
                    let place = (whole + tap + 1).checked_sub(reach)?;
                    Some(weight * f32::from(*samples.get(place)?))
                })
                .sum();
            sum as i16
        })
        .collect()
}

fn greatest_common_divisor(mut left: u32, mut right: u32) -> u32 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::{Frame, SAMPLES};
    use crate::goertzel::Goertzel;

    /// A WAV file made by another library.
    fn foreign(rate_hz: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for &sample in samples {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_written_is_read_by_us_and_by_others() {
        let samples: Vec<i16> = (-500..500).collect();
        let bytes = write(&samples);
        assert_eq!(read(&bytes).unwrap(), samples);
        let mut reader = hound::WavReader::new(&bytes[..]).unwrap();
        assert_eq!(reader.spec().sample_rate, 16_000);
        assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), samples);
    }

    #[test]
    fn every_rate_becomes_16_khz() {
        for rate_hz in [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
            let samples: Vec<i16> = (0..rate_hz)
                .map(|index| {
                    let angle = f64::from(index) * 1_000.0 * std::f64::consts::TAU / f64::from(rate_hz);
                    (angle.sin() * 10_000.0) as i16
                })
                .collect();
            let read = read(&foreign(rate_hz, 1, &samples)).unwrap();
            assert!((15_990..=16_000).contains(&read.len()), "{rate_hz}: {}", read.len());
            let mut ear = Goertzel::new(1_000.0);
            for tick in &read.as_chunks::<SAMPLES>().0[5..45] {
                ear.hear(&Frame(*tick));
            }
            let level = ear.take_level_dbov();
            assert!((level + 13.3).abs() < 0.3, "{rate_hz}: {level}");
        }
    }

    #[test]
    fn an_unclosed_recording_is_read_to_its_end() {
        let mut bytes = header(0).to_vec();
        bytes.extend([1, 0, 2, 0, 3]);
        assert_eq!(read(&bytes).unwrap(), [1, 2]);
    }

    #[test]
    fn what_we_do_not_play_is_named() {
        let stereo = read(&foreign(44_100, 2, &[0; 8])).unwrap_err();
        assert!(stereo.to_string().contains("2 channels"), "{stereo}");
        assert_eq!(read(b"RIFF"), Err(WavError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..44) {
            let mut bytes = header(100)[..cut].to_vec();
            bytes.extend(tail);
            let _ = read(&bytes);
        }
    }
}
