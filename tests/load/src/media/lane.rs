//! One thread and its endpoints.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Opening, Order, Report, session::Session, sockets::Batch};
use crate::{
    measure::Durations,
    process,
    voice::{FRAME, Voice},
};

/// How often all sockets are looked at.
const SWEEP: Duration = Duration::from_millis(40);
/// How often those are that connect: their peers wait for each answer.
const QUICK_SWEEP: Duration = Duration::from_millis(1);
/// Failures that are kept; there may be one for each endpoint.
const MAX_FAILURES: usize = 10_000;

pub(super) struct Lane {
    sessions: HashMap<u64, Session>,
    speaking: Vec<Speaking>,
    /// Of the endpoints that connect.
    connecting: Vec<u64>,
    next_sweep: Instant,
    next_quick: Instant,
    verify: u64,
    heard: Arc<watch::Sender<u64>>,
    batch: Batch,
    delays: Durations,
    lateness: Durations,
    failures: Vec<String>,
}

struct Speaking {
    endpoint: u64,
    voice: Arc<Voice>,
    level: i8,
    due: Instant,
}

impl Lane {
    pub(super) fn new(verify: u64, heard: Arc<watch::Sender<u64>>) -> Self {
        let now = Instant::now();
        Self {
            sessions: HashMap::new(),
            speaking: Vec::new(),
            connecting: Vec::new(),
            next_sweep: now,
            next_quick: now,
            verify,
            heard,
            batch: Batch::new(),
            delays: Durations::new(),
            lateness: Durations::new(),
            failures: Vec::new(),
        }
    }

    /// Runs until nobody can give orders any more.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let wait = self.next_turn().saturating_duration_since(Instant::now());
            match orders.recv_timeout(wait) {
                Ok(order) => {
                    self.obey(order);
                    while let Ok(order) = orders.try_recv() {
                        self.obey(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.send_due();
            self.sweep_due();
        }
    }

    fn next_turn(&self) -> Instant {
        let mut next = self.next_sweep;
        if !self.connecting.is_empty() {
            next = next.min(self.next_quick);
        }
        let voices = self.speaking.iter().map(|one| one.due);
        voices.min().map_or(next, |due| next.min(due))
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(opening) => self.open(*opening),
            Order::Speak {
                endpoint,
                voice,
                level,
            } => self.speak(endpoint, voice, level),
            Order::Hush { endpoint } => self.hush(endpoint),
            Order::Listen {
                endpoint,
                ssrc,
                mid,
                voice,
            } => {
                if let Some(session) = self.sessions.get_mut(&endpoint) {
                    session.expect(ssrc, &mid, voice);
                }
            }
            Order::Close { endpoint } => self.close(endpoint),
            Order::Report(reply) => drop(reply.send(self.report())),
        }
    }

    fn open(&mut self, opening: Opening) {
        let Opening {
            endpoint,
            rtc,
            remote,
            formats,
            connected,
        } = opening;
        match Session::open(rtc, remote, formats, self.verify) {
            Ok(mut session) => {
                session.tell(connected);
                self.sessions.insert(endpoint, session);
                self.connecting.push(endpoint);
            }
            // Whoever waited may have given up.
            Err(why) => drop(connected.send(Err(why.to_string()))),
        }
    }

    fn speak(&mut self, endpoint: u64, voice: Arc<Voice>, level: i8) {
        let mut speaking = self.speaking.iter_mut();
        if let Some(one) = speaking.find(|one| one.endpoint == endpoint) {
            one.level = level;
        } else if let Some(session) = self.sessions.get_mut(&endpoint) {
            session.declare(voice.ssrc());
            self.speaking.push(Speaking {
                endpoint,
                voice,
                level,
                due: Instant::now(),
            });
        }
    }

    fn hush(&mut self, endpoint: u64) {
        self.speaking.retain(|one| one.endpoint != endpoint);
    }

    fn close(&mut self, endpoint: u64) {
        self.sessions.remove(&endpoint);
        self.connecting.retain(|one| *one != endpoint);
        self.hush(endpoint);
    }

    fn failed(&mut self, why: String) {
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(why);
        }
    }

    /// Sends what is due, and what was due when this thread did not run: 50 packets a
    /// second stay 50.
    fn send_due(&mut self) {
        let mut broken = Vec::new();
        for one in &mut self.speaking {
            let Some(session) = self.sessions.get_mut(&one.endpoint) else {
                continue;
            };
            loop {
                let late = Instant::now().checked_duration_since(one.due);
                let Some(late) = late else { break };
                self.lateness.record(late);
                if let Err(why) = session.send(&one.voice, one.level) {
                    broken.push((one.endpoint, why));
                    break;
                }
                one.due += FRAME;
            }
        }
        for (endpoint, why) in broken {
            self.failed(why.to_string());
            self.close(endpoint);
        }
    }

    fn sweep_due(&mut self) {
        let now = Instant::now();
        let swept: Vec<u64> = if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.sessions.keys().copied().collect()
        } else if now >= self.next_quick {
            self.connecting.clone()
        } else {
            return;
        };
        self.next_quick = now + QUICK_SWEEP;
        let mut newly_heard = 0;
        for endpoint in swept {
            let Some(session) = self.sessions.get_mut(&endpoint) else {
                continue;
            };
            let done = session.sweep(&mut self.batch, &mut self.delays);
            newly_heard += std::mem::take(&mut session.newly_heard);
            if let Err(why) = done {
                let why = why.to_string();
                if !session.fail(&why) {
                    self.failed(why);
                }
                self.close(endpoint);
            }
        }
        let sessions = &self.sessions;
        self.connecting
            .retain(|one| sessions.get(one).is_some_and(Session::is_connecting));
        if newly_heard > 0 {
            self.heard.send_modify(|heard| *heard += newly_heard);
        }
    }

    fn report(&self) -> Report {
        let sessions = self.sessions.iter();
        Report {
            receptions: sessions
                .flat_map(|(endpoint, session)| session.receptions(*endpoint))
                .collect(),
            delays: self.delays.clone(),
            lateness: self.lateness.clone(),
            failures: self.failures.clone(),
            busy: process::thread_cpu(),
        }
    }
}
