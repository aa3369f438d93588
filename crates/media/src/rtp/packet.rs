//! The RTP packet (RFC 3550 §5.1), read and written.

/// The length of a header as we write it: no contributing sources, no extension.
pub const HEADER_BYTES: usize = 12;

/// What every RTP packet says before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 0–127.
    pub payload_type: u8,
    /// The first packet of a talk spurt or of an event.
    pub marker: bool,
    /// One more for each packet.
    pub sequence: u16,
    /// When the first sample was taken, in ticks of the format's clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
}

impl Header {
    /// Writes the header in front of a payload.
    pub fn write(&self, bytes: &mut [u8; HEADER_BYTES]) {
        bytes[0] = 0x80;
        bytes[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        bytes[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.ssrc.to_be_bytes());
    }
}

/// A packet as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed part.
    pub header: Header,
    /// The header extension: its profile and its data (RFC 3550 §5.3.1).
    pub extension: Option<(u16, &'a [u8])>,
    /// The payload without padding.
    pub payload: &'a [u8],
}

/// Not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RTP packet, or cut short")]
pub struct Malformed;

impl<'a> Packet<'a> {
    /// Reads a packet; anything may be given.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (fixed, mut rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
        if fixed[0] >> 6 != 2 {
            return Err(Malformed);
        }
        let contributing = usize::from(fixed[0] & 0x0f) * 4;
        rest = rest.get(contributing..).ok_or(Malformed)?;

        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let (head, data) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            let (data, after) = data.split_at_checked(length).ok_or(Malformed)?;
            extension = Some((u16::from_be_bytes([head[0], head[1]]), data));
            rest = after;
        }
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(Malformed)?);
            if padding == 0 {
                return Err(Malformed);
            }
            rest = rest.get(..rest.len().checked_sub(padding).ok_or(Malformed)?).ok_or(Malformed)?;
        }
        let header = Header {
            payload_type: fixed[1] & 0x7f,
            marker: fixed[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        Ok(Self { header, extension, payload: rest })
    }
}

/// Whether a datagram of a shared port is RTCP (RFC 5761 §4).
pub fn is_rtcp(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes[0] >> 6 == 2 && (192..=223).contains(&bytes[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_extension_and_padding_are_stepped_over() {
        let mut bytes = vec![0xb2, 0x80, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1];
        bytes.extend([0; 8]);
        bytes.extend([0xbe, 0xde, 0, 1, 0x10, 0x85, 0, 0]);
        bytes.extend([1, 2, 3, 0, 0, 3]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.payload, [1, 2, 3]);
        assert_eq!(packet.extension, Some((0xbede, &[0x10, 0x85, 0, 0][..])));
        assert_eq!((packet.header.sequence, packet.header.timestamp, packet.header.marker), (7, 9, true));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for bytes in [
            &[0x80; 11][..],
            &[0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
            &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
            &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Packet::parse(bytes), Err(Malformed));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(payload_type in 0_u8..128, marker: bool, sequence: u16, timestamp: u32, ssrc: u32) {
            let header = Header { payload_type, marker, sequence, timestamp, ssrc };
            let mut bytes = [0; HEADER_BYTES];
            header.write(&mut bytes);
            prop_assert_eq!(Packet::parse(&bytes).unwrap().header, header);
        }
    }
}
