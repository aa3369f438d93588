//! How a leg sounds, as a number: a simplified E-model.
//!
//! ITU-T G.107 adds up what harms a conversation: `R = 93.2 − Id − Ie,eff`, with everything that packets do not change at
//! its default, and turns R into a mean opinion score (MOS), 1 to 4.5. The delay term is the usual approximation of
//! §7.4 below 400 ms; loss is taken as random (§7.5 with BurstR = 1). What the estimate cannot know: the phone behind the
//! packets, echo, noise, and what the network does on the way from us to the peer.
//!
//! The scale is that of a narrow-band telephone, so that all codecs can be compared. On it G.722 and Opus are taken as
//! transparent like G.711; wide-band scales (G.107.1) would give both a higher score.

use crate::codec::Codec;

/// What is known of a leg.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// What it speaks.
    pub codec: Codec,
    /// From mouth to ear, milliseconds.
    pub delay_ms: f32,
    /// Packets that could not be played, 0 to 1.
    pub loss: f32,
}

/// The rating factor R, 0 to 93.2.
pub fn rating(heard: Heard) -> f32 {
    (93.2 - delay_impairment(heard.delay_ms) - loss_impairment(heard.codec, heard.loss)).max(0.0)
}

/// The mean opinion score of a conversation, 1 to 4.5: from 4.3 on nobody complains, below 3.6 many do (G.107 Annex B).
pub fn mos(heard: Heard) -> f32 {
    let rating = rating(heard).min(100.0);
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).clamp(1.0, 4.5)
}

/// Id of G.107 §7.4, in two straight lines: beyond 177 ms people begin to talk into each other.
fn delay_impairment(delay_ms: f32) -> f32 {
    let delay = delay_ms.max(0.0);
    0.024 * delay + 0.11 * (delay - 177.3).max(0.0)
}

/// Ie,eff of G.107 §7.5, percent lost against what the codec bears.
fn loss_impairment(codec: Codec, loss: f32) -> f32 {
    let (impairment, robustness) = match codec {
        // G.113 Appendix I: G.711 with concealment after its own Appendix I, which is how G.722 is concealed here too.
        Codec::Pcmu | Codec::Pcma | Codec::G722 => (0.0, 25.1),
        // No table has Opus. Its concealment is taken as that of other predictive codecs (G.729: 19.0).
        Codec::Opus => (0.0, 19.0),
    };
    let percent = 100.0 * loss.clamp(0.0, 1.0);
    impairment + (95.0 - impairment) * percent / (percent + robustness)
}

/// What the codec and one packet of 20 ms add to the delay, milliseconds.
pub(crate) fn codec_delay_ms(codec: Codec) -> f32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 20.0,
        // Its filters look 1.5 ms ahead.
        Codec::G722 => 21.5,
        // RFC 6716 §2: 6.5 ms of look-ahead.
        Codec::Opus => 26.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(codec: Codec, delay_ms: f32, loss: f32) -> Heard {
        Heard { codec, delay_ms, loss }
    }

    #[test]
    fn a_good_line_is_a_good_line_and_a_bad_one_is_none() {
        // G.107 Annex B: R = 93.2 is a MOS of 4.41.
        assert!((mos(heard(Codec::Pcmu, 0.0, 0.0)) - 4.41).abs() < 0.01);
        assert!((rating(heard(Codec::Pcmu, 150.0, 0.0)) - 89.6).abs() < 0.01);
        // 5 % lost with concealment: 95 · 5 / 30.1.
        assert!((rating(heard(Codec::Pcmu, 0.0, 0.05)) - 77.4).abs() < 0.1);
        assert!((rating(heard(Codec::Pcmu, 400.0, 0.0)) - 59.1).abs() < 0.1);
        assert!(mos(heard(Codec::Opus, 100.0, 0.4)) < 2.0);
        assert!(mos(heard(Codec::G722, 5_000.0, 1.0)) >= 1.0);
    }

    #[test]
    fn more_harm_is_never_better() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
            for step in 0..50 {
                let (delay, loss) = (step as f32 * 20.0, step as f32 / 50.0);
                let better = mos(heard(codec, delay, loss));
                assert!(mos(heard(codec, delay + 20.0, loss)) <= better);
                assert!(mos(heard(codec, delay, loss + 0.02)) <= better);
                assert!((1.0..=4.5).contains(&better));
            }
        }
    }
}
