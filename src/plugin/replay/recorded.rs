//! Reads a recording, and makes of it what a replay has to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Read},
    sync::Arc,
};

use serde_json::Value;

use super::{
    keys::{Correction, Keys},
    report::{Gaps, Side},
};
use crate::{
    model::UnixMs,
    plugin::{
        call::Input,
        record::{CallLine, ImportCall, InstanceLine, Line, Outcome},
    },
};

/// Longest line, in bytes: longer than any that a server writes.
const LINE: u64 = 64 << 20;

/// What is to be done, in order.
pub(super) struct Recorded {
    pub(super) plugin: String,
    /// Components, in the order in which they appear.
    pub(super) components: Vec<String>,
    pub(super) steps: Vec<Step>,
    /// Keys that were there at the beginning.
    pub(super) seeds: Vec<(String, Vec<u8>)>,
    /// Most instances at once.
    pub(super) instances: usize,
    pub(super) gaps: Gaps,
}

pub(super) enum Step {
    Begin(Begin),
    Call(Box<Call>),
    /// The instance is not called any more.
    End(usize),
}

/// An instance is made.
pub(super) struct Begin {
    /// Counts the instances of the recording, beginning with 0.
    pub(super) place: usize,
    pub(super) instance: u64,
    pub(super) at: UnixMs,
    pub(super) settings: Value,
    pub(super) random: u64,
    pub(super) outcome: Outcome,
    pub(super) corrections: Vec<Correction>,
}

/// An instance is called.
pub(super) struct Call {
    pub(super) place: usize,
    pub(super) instance: u64,
    pub(super) seq: u64,
    pub(super) input: Arc<Input>,
    pub(super) corrections: Vec<Correction>,
    pub(super) expected: Side,
    /// Whether what it did stayed.
    pub(super) took_effect: bool,
    /// Whether all its imports are known.
    pub(super) complete: bool,
}

/// Why there is nothing to replay.
pub(super) enum Unreadable {
    Io(io::Error),
    /// The plugins of which there are calls; none, or several and not the one that is wanted.
    Plugins(BTreeSet<String>),
}

impl Recorded {
    /// `wanted` is the plugin to replay if there are several.
    pub(super) fn read(calls: impl BufRead, wanted: &str) -> Result<Self, Unreadable> {
        let mut gaps = Gaps::default();
        let lines = lines(calls, &mut gaps).map_err(Unreadable::Io)?;
        let named = lines.iter().filter_map(|line| match line {
            Line::Instance(line) => Some(line.plugin.clone()),
            Line::Call(_) => None,
        });
        let mut plugins: BTreeSet<String> = named.collect();
        let plugin = if plugins.contains(wanted) {
            wanted.to_owned()
        } else {
            match (plugins.pop_first(), plugins.is_empty()) {
                (Some(only), true) => only,
                (first, _) => {
                    plugins.extend(first);
                    return Err(Unreadable::Plugins(plugins));
                }
            }
        };
        let mut reader = Reader {
            recorded: Self {
                plugin,
                components: Vec::new(),
                steps: Vec::new(),
                seeds: Vec::new(),
                instances: 0,
                gaps,
            },
            keys: Keys::default(),
            known: BTreeMap::new(),
            begun: 0,
            last: None,
        };
        for line in lines {
            match line {
                Line::Instance(line) => reader.begin(line),
                Line::Call(line) => reader.call(line),
            }
        }
        Ok(reader.finish())
    }
}

/// The lines that are some.
fn lines(mut calls: impl BufRead, gaps: &mut Gaps) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut text = Vec::new();
    loop {
        text.clear();
        if calls.by_ref().take(LINE).read_until(b'\n', &mut text)? == 0 {
            return Ok(lines);
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(line) => lines.push(line),
            Err(_) => gaps.damaged_lines += 1,
        }
    }
}

struct Reader {
    recorded: Recorded,
    keys: Keys,
    /// By number: what the latest instance line with it has said.
    known: BTreeMap<u64, Known>,
    begun: usize,
    /// The number of the last call.
    last: Option<u64>,
}

#[derive(Clone, Copy)]
struct Known {
    run: UnixMs,
    /// `None` if it is another plugin's.
    place: Option<usize>,
}

impl Reader {
    fn begin(&mut self, line: InstanceLine) {
        let same = |known: &Known| known.run == line.run;
        if self.known.get(&line.instance).is_some_and(same) {
            return;
        }
        let ours = line.plugin == self.recorded.plugin;
        let place = ours.then_some(self.begun);
        let run = line.run;
        self.known.insert(line.instance, Known { run, place });
        let Some(place) = place else { return };
        self.begun += 1;
        let recorded = &mut self.recorded;
        if !recorded.components.contains(&line.component) {
            recorded.components.push(line.component);
        }
        let corrections = if line.continued {
            // What it did belongs to a time of which nothing else is known.
            recorded.gaps.begun_before += 1;
            Vec::new()
        } else {
            let started = !matches!(line.outcome, Outcome::Failed(_));
            self.keys.learn(line.at.0, &line.imports, started)
        };
        recorded.steps.push(Step::Begin(Begin {
            place,
            instance: line.instance,
            at: line.at,
            settings: line.settings,
            random: line.random,
            outcome: line.outcome,
            corrections,
        }));
    }

    fn call(&mut self, line: CallLine) {
        let gaps = &mut self.recorded.gaps;
        // A number that is not higher is the beginning of another run.
        let expected = self.last.map_or(line.seq, |last| last + 1);
        gaps.missing += line.seq.saturating_sub(expected);
        self.last = Some(line.seq);
        let place = match self.known.get(&line.instance) {
            None => {
                gaps.of_unknown_instances += 1;
                return;
            }
            Some(Known { place: None, .. }) => {
                gaps.of_others += 1;
                return;
            }
            Some(Known {
                place: Some(place), ..
            }) => *place,
        };
        let took_effect = line.took_effect();
        let failed = matches!(line.outcome, Outcome::Failed(_));
        gaps.failed += u64::from(failed);
        gaps.undone += u64::from(line.undone);
        gaps.truncated += u64::from(line.truncated);
        let now = line.input.at().0;
        let corrections = self.keys.learn(now, &line.imports, took_effect);
        self.recorded.steps.push(Step::Call(Box::new(Call {
            place,
            instance: line.instance,
            seq: line.seq,
            corrections,
            expected: Side {
                outcome: line.outcome,
                amendment: line.amendment,
                actions: line.actions,
                published: line.published,
                timers: timers(line.imports),
            },
            took_effect,
            complete: !line.truncated,
            input: line.input,
        })));
    }

    /// Notes where instances end, so that no more of them live at once than did.
    fn finish(self) -> Recorded {
        let mut recorded = self.recorded;
        recorded.gaps.unexplained_keys = self.keys.corrected();
        recorded.seeds = self.keys.into_seeds();
        let mut last = vec![0; self.begun];
        for (number, step) in recorded.steps.iter().enumerate() {
            let place = match step {
                Step::Begin(begin) => begin.place,
                Step::Call(call) => call.place,
                Step::End(_) => continue,
            };
            if let Some(last) = last.get_mut(place) {
                *last = number;
            }
        }
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        for (place, number) in last.into_iter().enumerate() {
            ends.insert(number, place);
        }
        let mut living = 0;
        let mut steps = Vec::with_capacity(recorded.steps.len() + ends.len());
        for (number, step) in recorded.steps.into_iter().enumerate() {
            living += usize::from(matches!(step, Step::Begin(_)));
            recorded.instances = recorded.instances.max(living);
            steps.push(step);
            if let Some(place) = ends.get(&number) {
                living -= 1;
                steps.push(Step::End(*place));
            }
        }
        recorded.steps = steps;
        recorded
    }
}

/// Of import calls, those that changed timers.
pub(super) fn timers(imports: Vec<ImportCall>) -> Vec<ImportCall> {
    let is_timer = |call: &ImportCall| call.function.starts_with("timers.");
    imports.into_iter().filter(is_timer).collect()
}
