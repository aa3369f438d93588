//! What lines say, made once and shared by all calls that say it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use media::{Clip, Frame, SAMPLE_RATE, SAMPLES, Sine, Source, Speech};

use crate::script::Say;

/// Why a sound cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("cannot play {path}: {error}")]
    Unplayable { path: PathBuf, error: media::wav::WavError },
    #[error("{path} is too large: at most {} MiB are played", WAV_BYTES_MAX >> 20)]
    TooLarge { path: PathBuf },
}

/// The sounds of a bank.
#[derive(Debug, Default)]
pub(crate) struct Sounds {
    clips: Mutex<BTreeMap<Key, Arc<[i16]>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Voice(u64),
    Tone(u32),
    Wav(PathBuf),
}

impl Sounds {
    /// A source of what is to be said. Reads the file of a WAV, once, so it may block for a moment.
    ///
    /// `speaker` chooses one of a few voices.
    pub(crate) fn source(&self, say: &Say, speaker: &str) -> Result<Source, SoundError> {
        let clip = match say {
            Say::Silence => return Ok(Source::Silence),
            Say::Speech => self.clip(Key::Voice(voice_of(speaker)))?,
            // A second of a whole number of hertz is a whole number of periods: it repeats without a seam.
            &Say::Tone(hertz) if hertz.fract() == 0.0 => self.clip(Key::Tone(hertz as u32))?,
            &Say::Tone(hertz) => return Ok(Source::Tone(Sine::new(hertz, TONE_DBOV))),
            Say::Wav(path) => self.clip(Key::Wav(path.clone()))?,
        };
        Ok(Source::Clip(Clip::new(clip, true)))
    }

    fn clip(&self, key: Key) -> Result<Arc<[i16]>, SoundError> {
        let mut clips = self.clips.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clip) = clips.get(&key) {
            return Ok(Arc::clone(clip));
        }
        let clip: Arc<[i16]> = match &key {
            Key::Voice(seed) => {
                let mut speech = Speech::new(*seed);
                collect(SPEECH_SECONDS, |frame| speech.next(frame)).into()
            }
            Key::Tone(hertz) => {
                let mut sine = Sine::new(*hertz as f32, TONE_DBOV);
                collect(1, |frame| sine.next(frame)).into()
            }
            Key::Wav(path) => read(path)?.into(),
        };
        if clips.len() >= CLIPS_MAX {
            clips.pop_first();
        }
        clips.insert(key, Arc::clone(&clip));
        Ok(clip)
    }
}

/// Well audible, and nine of them at once do not clip.
const TONE_DBOV: f32 = -22.0;
/// Long enough that nobody hears it repeat; 640 KB.
const SPEECH_SECONDS: usize = 20;
/// Voices of lines that speak.
const VOICES: u64 = 8;
/// Sounds kept; a directory has few different ones.
const CLIPS_MAX: usize = 64;
/// Nine minutes at 16 kHz.
const WAV_BYTES_MAX: u64 = 16 << 20;

fn collect(seconds: usize, mut next: impl FnMut(&mut Frame)) -> Vec<i16> {
    let mut samples = Vec::with_capacity(seconds * SAMPLE_RATE as usize);
    let mut frame = Frame::SILENCE;
    for _ in 0..seconds * SAMPLE_RATE as usize / SAMPLES {
        next(&mut frame);
        samples.extend_from_slice(frame.samples());
    }
    samples
}

fn read(path: &Path) -> Result<Vec<i16>, SoundError> {
    let unreadable = |error| SoundError::Unreadable { path: path.to_owned(), error };
    if std::fs::metadata(path).map_err(unreadable)?.len() > WAV_BYTES_MAX {
        return Err(SoundError::TooLarge { path: path.to_owned() });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    media::wav::read(&bytes).map_err(|error| SoundError::Unplayable { path: path.to_owned(), error })
}

/// FNV-1a, so that a line has the same voice in every process.
fn voice_of(speaker: &str) -> u64 {
    let hash = speaker
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 32) % VOICES
}
