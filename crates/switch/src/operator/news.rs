//! News of the tick threads: first packets, tones, figures, and threads that have died.

use std::net::{Ipv4Addr, SocketAddr};

use control::{Cause, LegId, LegNews};
use media::LegStats;
use sip::agent::{HangUpCause, Order};

use super::leg::{Leg, LegState};
use super::{Operator, Output};
use crate::Report;
use crate::happening::What;
use crate::media::tick::{News, Sample};
use crate::statistics::LegStatistics;

/// Figures that are being collected from the threads.
#[derive(Debug)]
pub(super) struct StatisticsRound {
    waiting: usize,
    samples: Vec<Sample>,
    /// Somebody asked; else the figures become [`What::Levels`].
    asked: bool,
}

/// A leg's last figures, for whoever reads logs and graphs.
fn conclude_leg(leg: LegId, stats: LegStats) {
    if let Some(mos) = stats.mos {
        metrics::histogram!("convoke_switch_leg_mos").record(f64::from(mos));
    }
    tracing::info!(
        %leg,
        mos = stats.mos.map(|mos| (mos * 100.0).round() / 100.0),
        packets_in = stats.packets_in,
        packets_out = stats.packets_out,
        lost = stats.lost,
        late = stats.late,
        ignored = stats.ignored,
        jitter_ms = (stats.jitter_ms * 10.0).round() / 10.0,
        "its audio has ended"
    );
}

impl Operator {
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Heard(port, events) => {
                let Some(id) = self.by_port.get(&port).copied() else { return };
                let Some(leg) = self.legs.get(&id) else { return };
                if events.media_up && matches!(leg.state, LegState::Talking(_)) {
                    let owner = leg.owner;
                    self.happen(id, What::MediaUp);
                    self.signal(owner, id, LegNews::MediaUp);
                }
                for tone in events.tones() {
                    metrics::counter!("convoke_switch_tones_total").increment(1);
                    self.happen(id, What::Tone(tone.key()));
                }
            }
            News::Arrived(port) => self.threads.arrived(port),
            News::Closed(leg) => {
                self.threads.closed(leg.id);
                let id = self.by_port.remove(&leg.id);
                if let (Some(id), Some(port)) = (id, &leg.port) {
                    conclude_leg(id, port.stats());
                }
            }
            News::RoomClosed(room) => drop(room),
            News::Statistics(samples) => self.collect(samples),
            News::Failed(port) => {
                if let Some(id) = self.by_port.get(&port).copied() {
                    tracing::warn!(leg = %id, "its media cannot follow the session");
                    self.end(id, Cause::MediaFailed);
                }
            }
        }
    }

    /// Asks the threads for figures, unless they are asked already.
    pub(super) fn ask_statistics(&mut self, asked: bool) {
        if let Some(round) = &mut self.statistics {
            round.asked |= asked;
            return;
        }
        let waiting = self.threads.ask_statistics();
        self.statistics = Some(StatisticsRound { waiting, samples: Vec::new(), asked });
        if waiting == 0 {
            self.conclude();
        }
    }

    fn collect(&mut self, samples: Vec<Sample>) {
        let Some(round) = &mut self.statistics else { return };
        round.samples.extend(samples);
        round.waiting = round.waiting.saturating_sub(1);
        if round.waiting == 0 {
            self.conclude();
        }
    }

    fn conclude(&mut self) {
        let Some(round) = self.statistics.take() else { return };
        let figures: Vec<LegStatistics> = round.samples.iter().filter_map(|sample| self.figures(sample)).collect();
        if round.asked {
            self.outputs.push_back(Output::Statistics(figures));
            return;
        }
        for leg in figures {
            self.happen(leg.leg, What::Levels { speaks_dbov: leg.speaks_dbov, hears_dbov: leg.hears_dbov });
        }
    }

    fn figures(&self, sample: &Sample) -> Option<LegStatistics> {
        let id = *self.by_port.get(&sample.leg)?;
        let Leg { who, owner, state: LegState::Talking(talking), .. } = self.legs.get(&id)? else { return None };
        let stats = sample.stats;
        Some(LegStatistics {
            leg: id,
            conference: *owner,
            attached: self.threads.seat_of(sample.leg) == Some(*owner),
            who: who.clone(),
            codec: talking.negotiation.agreed().map_or("", |agreed| agreed.codec.as_str()),
            remote: sample.remote.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            packets_in: stats.packets_in,
            packets_out: stats.packets_out,
            lost: stats.lost,
            concealed: stats.concealed,
            ignored: stats.ignored,
            jitter_ms: stats.jitter_ms,
            delay_ms: stats.delay_ms,
            speaks_dbov: stats.level_in_dbov,
            hears_dbov: stats.level_out_dbov,
            mos: stats.mos,
        })
    }

    /// A thread that has died takes its legs with it; their conferences are told.
    pub(super) fn thread_died(&mut self) {
        tracing::error!("a media thread has died");
        self.report(Report::Died { part: "media thread" });
        // Figures that it owed will never come.
        self.conclude();
        self.hang_up_lost();
    }

    /// Legs whose media is on a thread that has died.
    pub(super) fn hang_up_lost(&mut self) {
        for port in self.threads.take_lost() {
            let Some(id) = self.by_port.remove(&port) else { continue };
            if let Some(leg) = self.legs.get(&id)
                && matches!(leg.state, LegState::Talking(_))
            {
                let key = leg.key;
                self.order(Order::HangUp { leg: key, cause: HangUpCause::because(500, "Internal error") });
                self.gone_with(id, Cause::Internal);
            }
        }
    }
}
