//! Watches for the packets with which a stream begins: media, not signalling.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mediasoup::{
    producer::{ProducerScore, ProducerTraceEventData, ProducerTraceEventType},
    types::data_structures::RtpPacketTraceInfo,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{
    Cluster, MediaError, MediaEvent, Producer, bounded, participant::report,
    producer::ProducerInner,
};
use crate::{
    config::FirstRtpConfig,
    model::{FirstPacket, ProducerId, UnixMs},
};

/// How long the next packet may take after one that came before the watch: a client sends
/// fifty a second.
const NEXT_PACKET: Duration = Duration::from_millis(250);

/// Counts a stream's first packets until there are enough of them.
pub(super) struct Watch {
    producer: ProducerId,
    rule: FirstRtpConfig,
    counts: By,
    made: Instant,
    payload_type: u8,
    events: mpsc::Sender<MediaEvent>,
    seen: Mutex<Seen>,
}

/// What tells of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// A trace event for each.
    Trace,
    /// The first score, which the first packet causes; where packets cannot be traced.
    Score,
    /// The packets themselves.
    Probe,
}

#[derive(Default)]
struct Seen {
    counted: u32,
    ssrc: u32,
    /// RTP timestamp and payload type of the latest packet, where it could be traced.
    latest: Option<(u32, u8)>,
    /// Gone once there were enough.
    enough: Option<oneshot::Sender<()>>,
}

impl Watch {
    fn traced(&self, info: &RtpPacketTraceInfo) {
        // Padding is no media.
        if info.payload_size == 0 {
            return;
        }
        let mut seen = self.seen.lock();
        seen.ssrc = info.ssrc;
        seen.latest = Some((info.timestamp, info.payload_type));
        if self.counts == By::Trace {
            self.count(&mut seen);
        }
    }

    fn heard(&self, level: Option<i8>) {
        let wanted = self.rule.min_level_dbov;
        if wanted.is_none_or(|wanted| level.is_some_and(|level| level >= wanted)) {
            self.count(&mut self.seen.lock());
        }
    }

    fn scored(&self, scores: &[ProducerScore], paused: bool) {
        let Some(score) = scores.iter().find(|score| score.score > 0) else {
            return;
        };
        let mut seen = self.seen.lock();
        if seen.latest.is_none() {
            seen.ssrc = score.ssrc;
        }
        if self.counts == By::Score && !paused {
            self.count(&mut seen);
        }
    }

    fn count(&self, seen: &mut Seen) {
        seen.counted = seen.counted.saturating_add(1);
        if seen.counted >= self.rule.packets {
            self.report(seen);
        }
    }

    /// Whether it has not told yet.
    fn waits(&self) -> bool {
        self.seen.lock().enough.is_some()
    }

    /// Tells, once.
    fn report(&self, seen: &mut Seen) {
        let Some(enough) = seen.enough.take() else {
            return;
        };
        let (timestamp, payload_type) = seen.latest.unzip();
        let packet = FirstPacket {
            ssrc: seen.ssrc,
            timestamp,
            payload_type: payload_type.unwrap_or(self.payload_type),
            after_ms: u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let (producer, at) = (self.producer, UnixMs::now());
        let event = MediaEvent::FirstRtp {
            producer,
            at,
            packet,
        };
        report(&self.events, event);
        enough.send(()).ok();
    }
}

impl ProducerInner {
    /// Begins to watch, unless that has begun already.
    fn begin_watch(
        &self,
        producer: ProducerId,
        rule: FirstRtpConfig,
    ) -> Option<(Arc<Watch>, oneshot::Receiver<()>)> {
        let mut current = self.watch.lock();
        // One that has told is only there until it is ended.
        if current.as_ref().is_some_and(|one| one.waits()) {
            return None;
        }
        let (enough, reached) = oneshot::channel();
        let parameters = self.producer.rtp_parameters();
        let watch = Watch {
            producer,
            counts: if rule.min_level_dbov.is_some() || (!self.traced && rule.packets > 1) {
                By::Probe
            } else if self.traced {
                By::Trace
            } else {
                By::Score
            },
            rule,
            made: self.made,
            payload_type: parameters
                .codecs
                .first()
                .map_or(0, |codec| codec.payload_type()),
            events: self.events.clone(),
            seen: Mutex::new(Seen {
                enough: Some(enough),
                ..Seen::default()
            }),
        };
        let watch = Arc::new(watch);
        *current = Some(Arc::clone(&watch));
        Some((watch, reached))
    }

    /// What arrived while paused was no start; what flows now is.
    pub(super) fn look_at_score(&self) {
        let watch = self.watch.lock().clone();
        if let Some(watch) = watch {
            let paused = self.paused.load(Ordering::Relaxed);
            watch.scored(&self.producer.score(), paused);
        }
    }
}

impl Cluster {
    /// Reports once, as [`MediaEvent::FirstRtp`], that the stream has begun by this rule:
    /// from its packets, by trace events that are switched off again; where packets cannot
    /// be traced, from the first score, which the first packet causes; where levels are
    /// asked for, from the packets' own claims. While paused, packets arrive but are no
    /// start. A producer that is watched already goes on being so.
    ///
    /// # Errors
    /// If the worker fails a request; the producer is not watched then.
    pub async fn watch_first_rtp(
        &self,
        producer: &Producer,
        rule: FirstRtpConfig,
    ) -> Result<(), MediaError> {
        let inner = &producer.inner;
        let _turn = inner.watching.lock().await;
        let Some((watch, reached)) = inner.begin_watch(producer.id(), rule) else {
            return Ok(());
        };
        match self.prepare(producer, &watch).await {
            Ok(ends) => {
                let missed = watch.counts == By::Trace && rule.packets == 1 && inner.first_look();
                inner.look_at_score();
                let (weak, mine) = (Arc::downgrade(inner), Arc::downgrade(&watch));
                drop(watch);
                tokio::spawn(async move {
                    wait(&weak, reached, missed).await;
                    drop(ends);
                    if let Some(inner) = weak.upgrade() {
                        inner.end_watch(&mine).await;
                    }
                });
                Ok(())
            }
            Err(error) => {
                *inner.watch.lock() = None;
                Err(error)
            }
        }
    }

    /// What a watch needs until it ends.
    async fn prepare(
        &self,
        producer: &Producer,
        watch: &Arc<Watch>,
    ) -> Result<impl Send + use<>, MediaError> {
        let inner = &producer.inner;
        // The producer alone holds the watch, so that the wait for it ends with the producer.
        let (traced, scored) = (Arc::downgrade(watch), Arc::downgrade(watch));
        let paused: Arc<AtomicBool> = Arc::clone(&inner.paused);
        let handlers = [
            inner.producer.on_trace(move |event| {
                if let (ProducerTraceEventData::Rtp { info, .. }, Some(watch)) =
                    (event, traced.upgrade())
                {
                    watch.traced(info);
                }
            }),
            inner.producer.on_score(move |scores| {
                if let Some(watch) = scored.upgrade() {
                    watch.scored(scores, paused.load(Ordering::Relaxed));
                }
            }),
        ];
        if inner.traced {
            let on = inner
                .producer
                .enable_trace_event(vec![ProducerTraceEventType::Rtp]);
            bounded(inner.limit, "watch for RTP", on).await?;
        }
        let probe = if watch.counts == By::Probe {
            let heard = Arc::downgrade(watch);
            let listen = self.listen(producer, move |packet| {
                if let Some(watch) = heard.upgrade().filter(|_| packet.has_payload()) {
                    watch.heard(packet.level());
                }
            });
            Some(listen.await?)
        } else {
            None
        };
        Ok((handlers, probe))
    }
}

impl ProducerInner {
    /// Whether a packet was quicker than the first watch, as the score shows.
    fn first_look(&self) -> bool {
        let first = !self.watched.swap(true, Ordering::Relaxed);
        let running = !self.paused.load(Ordering::Relaxed);
        let scored = || self.producer.score().iter().any(|one| one.score > 0);
        first && running && scored()
    }

    async fn end_watch(&self, mine: &Weak<Watch>) {
        let _turn = self.watching.lock().await;
        {
            let mut current = self.watch.lock();
            let is_mine = |one: &Arc<Watch>| Weak::ptr_eq(&Arc::downgrade(one), mine);
            if !current.as_ref().is_some_and(is_mine) {
                // Another one needs the trace.
                return;
            }
            *current = None;
        }
        if self.traced {
            let off = self.producer.enable_trace_event(Vec::new());
            if let Err(error) = bounded(self.limit, "stop watching for RTP", off).await {
                debug!(producer = %self.producer.id(), %error, "RTP trace left on");
            }
        }
    }
}

/// Until enough packets have come, or the producer has gone. One that was `missed` counts
/// if none follows that could be looked at.
async fn wait(producer: &Weak<ProducerInner>, mut reached: oneshot::Receiver<()>, missed: bool) {
    if missed {
        if tokio::time::timeout(NEXT_PACKET, &mut reached)
            .await
            .is_ok()
        {
            return;
        }
        let watch = producer
            .upgrade()
            .and_then(|inner| inner.watch.lock().clone());
        if let Some(watch) = watch {
            watch.report(&mut watch.seen.lock());
        }
    }
    // The sender goes with the producer.
    drop(reached.await);
}
