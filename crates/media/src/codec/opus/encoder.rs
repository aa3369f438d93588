//! The reference encoder in memory of our own, so that one can go on where another stands.
#![expect(unsafe_code, reason = "the library's states are plain memory that only its C interface can fill and read")]

use std::ffi::c_int;

use opusic_sys as ffi;

use crate::frame::{SAMPLE_RATE, SAMPLES};

/// The library did not take what it was given; with settings that are constants or clamped, it has no reason to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused;

/// One stream's encoder. Settings and not state survive [`Encoder::restart`].
pub(crate) struct Encoder {
    /// The library's state, in words because it holds pointers and 64-bit numbers at most.
    state: Box<[u64]>,
}

impl Encoder {
    /// Complexity 5 costs 60 % of complexity 10 and sounds the same at this rate on speech. No in-band FEC: it costs
    /// half as much again, and our own peers conceal well.
    const COMPLEXITY: c_int = 5;

    pub(crate) fn new(bitrate: u32) -> Result<Self, Refused> {
        // SAFETY: a pure function of the number of channels.
        let bytes = unsafe { ffi::opus_encoder_get_size(1) };
        let words = usize::try_from(bytes).map_err(|_| Refused)?.div_ceil(size_of::<u64>());
        let mut this = Self { state: vec![0; words].into_boxed_slice() };
        // SAFETY: the state is as large and as aligned as the library asks for.
        let done = unsafe { ffi::opus_encoder_init(this.raw(), SAMPLE_RATE as i32, 1, ffi::OPUS_APPLICATION_VOIP) };
        accepted(done)?;
        this.set(ffi::OPUS_SET_COMPLEXITY_REQUEST, Self::COMPLEXITY)?;
        this.set_bitrate(bitrate)?;
        Ok(this)
    }

    pub(crate) fn set_bitrate(&mut self, bitrate: u32) -> Result<(), Refused> {
        self.set(ffi::OPUS_SET_BITRATE_REQUEST, bitrate as c_int)
    }

    pub(crate) fn restart(&mut self) {
        // SAFETY: the state was initialised, and this request takes no argument. It touches memory only and has no way to fail.
        unsafe { ffi::opus_encoder_ctl(self.raw(), ffi::OPUS_RESET_STATE) };
    }

    /// Goes on where another one stands: whoever has heard that one hears no seam. `opus.h`: a shallow copy of a state is
    /// a whole one.
    pub(crate) fn follow(&mut self, other: &Self) {
        self.state.copy_from_slice(&other.state);
    }

    /// Encodes one tick and says how many bytes it took; none means that the library refused.
    pub(crate) fn encode(&mut self, samples: &[i16], bytes: &mut [u8]) -> Option<usize> {
        let tick = samples.get(..SAMPLES)?;
        // SAFETY: the state was initialised; the library reads `SAMPLES` samples and writes at most `bytes.len()` bytes.
        let length = unsafe {
            ffi::opus_encode(self.raw(), tick.as_ptr(), SAMPLES as c_int, bytes.as_mut_ptr(), bytes.len() as i32)
        };
        usize::try_from(length).ok().filter(|length| *length > 0)
    }

    fn set(&mut self, request: c_int, value: c_int) -> Result<(), Refused> {
        // SAFETY: the state was initialised, and the requests that are made here take one integer.
        accepted(unsafe { ffi::opus_encoder_ctl(self.raw(), request, value) })
    }

    fn raw(&mut self) -> *mut ffi::OpusEncoder {
        self.state.as_mut_ptr().cast()
    }
}

fn accepted(code: c_int) -> Result<(), Refused> {
    if code == ffi::OPUS_OK { Ok(()) } else { Err(Refused) }
}
