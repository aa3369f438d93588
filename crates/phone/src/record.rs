//! What a call hears, as a WAV file: 16 kHz, mono, 16 bits, written by a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use media::{Frame, SAMPLE_RATE, SAMPLES};

use crate::event::{CallKey, Happening};
use crate::phone::Teller;

/// The end of a recording at which sound goes in. The file is complete soon after it is dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    frames: SyncSender<Frame>,
    lost: u64,
}

impl Recorder {
    /// The file of the n-th recording: `NAME.wav`, `NAME-2.wav`, …
    pub(crate) fn path(template: &Path, nth: u32) -> PathBuf {
        if nth <= 1 {
            return template.to_owned();
        }
        let stem = template.file_stem().unwrap_or_default().to_string_lossy();
        let extension = template.extension().map_or("wav".into(), |extension| extension.to_string_lossy());
        template.with_file_name(format!("{stem}-{nth}.{extension}"))
    }

    pub(crate) fn start(
        path: PathBuf,
        line: Arc<str>,
        call: CallKey,
        teller: Teller,
    ) -> Option<(Self, JoinHandle<()>)> {
        let (frames, receiver) = sync_channel(FRAMES_WAITING_MAX);
        let write = move || {
            let what = match write(&path, &receiver) {
                Ok(seconds) => Happening::Recorded { path, seconds },
                Err(error) => Happening::RecordingFailed { path, error: error.to_string() },
            };
            teller.tell(&line, Some(call), || what);
        };
        match std::thread::Builder::new().name("phone-recorder".to_owned()).spawn(write) {
            Ok(thread) => Some((Self { frames, lost: 0 }, thread)),
            Err(error) => {
                tracing::warn!(%call, %error, "a call is not recorded");
                None
            }
        }
    }

    /// Takes 20 ms. A disk that is seconds behind loses some.
    pub(crate) fn write(&mut self, frame: &Frame) {
        match self.frames.try_send(*frame) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                if self.lost == 1 {
                    tracing::warn!("the disk is too slow for a recording");
                }
            }
        }
    }
}

/// Ten seconds.
const FRAMES_WAITING_MAX: usize = 500;

fn write(path: &Path, frames: &Receiver<Frame>) -> Result<f32, hound::Error> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec)?;
    let mut written = 0;
    while let Ok(frame) = frames.recv() {
        let mut samples = file.get_i16_writer(SAMPLES as u32);
        frame.samples().iter().for_each(|&sample| samples.write_sample(sample));
        samples.flush()?;
        written += 1;
        if written % FRAMES_PER_HEADER == 0 {
            file.flush()?;
        }
    }
    file.finalize()?;
    Ok(written as f32 * media::TICK.as_secs_f32())
}

/// The header is made true every five seconds, so that what there is can be heard after a crash too.
const FRAMES_PER_HEADER: u32 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_recordings_are_numbered() {
        assert_eq!(Recorder::path(Path::new("/tmp/heard.wav"), 1), Path::new("/tmp/heard.wav"));
        assert_eq!(Recorder::path(Path::new("/tmp/heard.wav"), 2), Path::new("/tmp/heard-2.wav"));
        assert_eq!(Recorder::path(Path::new("heard"), 3), Path::new("heard-3.wav"));
    }
}
