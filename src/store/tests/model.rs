//! A space with random sets of changes against what they ought to do, in the plainest way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Entry = (Vec<u8>, Option<u64>);

/// Changes apply to one of so many sets that are open at a time.
const SETS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(usize, u8, Option<i64>),
    SetExpiring(usize, u8, i64, u64),
    CompareAndSet(usize, u8, Option<i64>, Option<i64>),
    Increment(usize, u8, i64),
    Get(usize, u8),
    List(usize),
    SetTimer(usize, u8, u64, Option<u64>),
    CancelTimer(usize, u8),
    Fire(usize),
    Apply(usize),
    Drop(usize),
    Wait(u64),
    /// Finishes all sets, and lets so much time pass that what has expired may be swept.
    Sweep,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (set, key, value) = (0..SETS, 0u8..4, -2i64..3);
    let value = || value.clone();
    let at = || (set.clone(), key.clone());
    let maybe = || proptest::option::of(value());
    let step = prop_oneof![
        4 => (at(), maybe()).prop_map(|((s, k), v)| Step::Set(s, k, v)),
        4 => (at(), value(), 0u64..30).prop_map(|((s, k), v, t)| Step::SetExpiring(s, k, v, t)),
        4 => (at(), maybe(), maybe()).prop_map(|((s, k), e, v)| Step::CompareAndSet(s, k, e, v)),
        4 => (at(), value()).prop_map(|((s, k), by)| Step::Increment(s, k, by)),
        4 => at().prop_map(|(s, k)| Step::Get(s, k)),
        2 => set.clone().prop_map(Step::List),
        3 => (at(), 0u64..30, proptest::option::of(100u64..200))
            .prop_map(|((s, k), after, every)| Step::SetTimer(s, k, after, every)),
        1 => at().prop_map(|(s, k)| Step::CancelTimer(s, k)),
        2 => set.clone().prop_map(Step::Fire),
        6 => set.clone().prop_map(Step::Apply),
        1 => set.prop_map(Step::Drop),
        3 => (0u64..20).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..80)
}

#[derive(Clone, Default)]
struct Model {
    keys: BTreeMap<String, Entry>,
    timers: BTreeMap<String, (u64, Option<u64>)>,
}

impl Model {
    fn live(&self, key: &str, now: u64) -> Option<Entry> {
        let entry = self.keys.get(key)?;
        entry
            .1
            .is_none_or(|until| now < until)
            .then(|| entry.clone())
    }
}

struct OpenSet {
    now: u64,
    staged: Staged,
    keys: BTreeMap<String, Option<Entry>>,
    bases: BTreeMap<String, Option<Entry>>,
    timers: BTreeMap<String, Option<(u64, Option<u64>)>>,
    fired: Option<(String, u64)>,
}

impl OpenSet {
    fn new(now: u64) -> Self {
        Self {
            now,
            staged: Staged::new(UnixMs(now)),
            keys: BTreeMap::new(),
            bases: BTreeMap::new(),
            timers: BTreeMap::new(),
            fired: None,
        }
    }

    fn view(&self, model: &Model, key: &str) -> Option<Entry> {
        let seen = self.keys.get(key).or_else(|| self.bases.get(key));
        seen.cloned().unwrap_or_else(|| model.live(key, self.now))
    }

    fn depend_on(&mut self, model: &Model, key: &str) -> Option<Entry> {
        let view = self.view(model, key);
        if !self.keys.contains_key(key) {
            self.bases.insert(key.to_owned(), view.clone());
        }
        view
    }

    /// A write of what is there already is none.
    fn write(&mut self, model: &Model, key: &str, entry: Option<Entry>) {
        if self.keys.contains_key(key) || model.live(key, self.now) != entry {
            self.keys.insert(key.to_owned(), entry);
        }
    }

    /// Whether there is no conflict.
    fn apply(self, model: &mut Model) -> bool {
        let same = |(key, base): (&String, &Option<Entry>)| model.live(key, self.now) == *base;
        if !self.bases.iter().all(same) {
            return false;
        }
        for (key, entry) in self.keys {
            match entry {
                Some(entry) => drop(model.keys.insert(key, entry)),
                None => drop(model.keys.remove(&key)),
            }
        }
        if let Some((key, due)) = self.fired
            && !self.timers.contains_key(&key)
            && let Some((at, every)) = model.timers.get(&key).copied()
            && at == due
        {
            match every {
                None => drop(model.timers.remove(&key)),
                Some(every) => {
                    let mut next = due + every;
                    while next <= self.now {
                        next += every;
                    }
                    model.timers.insert(key, (next, Some(every)));
                }
            }
        }
        for (key, timer) in self.timers {
            match timer {
                Some(timer) => drop(model.timers.insert(key, timer)),
                None => drop(model.timers.remove(&key)),
            }
        }
        true
    }
}

struct Run {
    /// None where the space is in memory only.
    store: Option<(TempDir, Store)>,
    space: Arc<Space>,
    model: Model,
    now: u64,
    sets: Vec<OpenSet>,
}

fn bytes(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl Run {
    fn new(durable: bool) -> Self {
        let store = durable.then(open);
        let space = match &store {
            Some((_, store)) => store.space("seats"),
            None => Space::detached("seats"),
        };
        // Ahead of the machine's clock, so that only calls sweep.
        let now = UnixMs::now().0 + 3_600_000;
        Self {
            store,
            space,
            model: Model::default(),
            now,
            sets: (0..SETS).map(|_| OpenSet::new(now)).collect(),
        }
    }

    fn finish(&mut self, set: usize) {
        let now = self.now;
        let mut open = std::mem::replace(&mut self.sets[set], OpenSet::new(now));
        let staged = std::mem::take(&mut open.staged);
        let result = self.space.apply(staged);
        assert_eq!(result.is_ok(), open.apply(&mut self.model));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(set) => self.finish(set),
            Step::Drop(set) => self.sets[set] = OpenSet::new(self.now),
            Step::Wait(ms) => self.now += ms,
            Step::Sweep => self.sweep(),
            Step::Reopen => self.reopen(),
            Step::Fire(set) => {
                let now = UnixMs(self.now);
                for timer in self.space.due(now, 1) {
                    let open = &mut self.sets[set];
                    open.staged.fired(&timer.room, &timer.key, timer.due);
                    open.fired = Some((timer.key.to_string(), timer.due.0));
                }
            }
            Step::SetTimer(set, key, after, every) => {
                let (open, key) = (&mut self.sets[set], key.to_string());
                open.staged
                    .set_timer(&self.space, &AMPLE, &room("r"), &key, after, every)
                    .unwrap();
                open.timers.insert(key, Some((open.now + after, every)));
            }
            Step::CancelTimer(set, key) => {
                let (open, key) = (&mut self.sets[set], key.to_string());
                open.staged
                    .cancel_timer(&self.space, &AMPLE, &room("r"), &key)
                    .unwrap();
                if open.timers.contains_key(&key) || self.model.timers.contains_key(&key) {
                    open.timers.insert(key, None);
                }
            }
            step => self.key_step(step),
        }
    }

    fn key_step(&mut self, step: Step) {
        let Self {
            space, model, sets, ..
        } = self;
        match step {
            Step::Set(set, key, value) => {
                let (open, key, value) = (&mut sets[set], key.to_string(), value.map(bytes));
                let result = open.staged.set(space, &AMPLE, &key, value.as_deref());
                assert_eq!(result, Ok(()));
                open.write(model, &key, value.map(|value| (value, None)));
            }
            Step::SetExpiring(set, key, value, ttl) => {
                let (open, key, value) = (&mut sets[set], key.to_string(), bytes(value));
                let result = open.staged.set_expiring(space, &AMPLE, &key, &value, ttl);
                assert_eq!(result, Ok(()));
                let entry = (ttl > 0).then_some((value, Some(open.now + ttl)));
                open.write(model, &key, entry);
            }
            Step::CompareAndSet(set, key, expected, value) => {
                let (open, key) = (&mut sets[set], key.to_string());
                let (expected, value) = (expected.map(bytes), value.map(bytes));
                let view = open.depend_on(model, &key).map(|(value, _)| value);
                let result = open.staged.compare_and_set(
                    space,
                    &AMPLE,
                    &key,
                    expected.as_deref(),
                    value.as_deref(),
                );
                assert_eq!(result, Ok(view == expected));
                if view == expected {
                    open.write(model, &key, value.map(|value| (value, None)));
                }
            }
            Step::Increment(set, key, by) => {
                let (open, key) = (&mut sets[set], key.to_string());
                let (value, until) = open.depend_on(model, &key).unwrap_or((bytes(0), None));
                let sum = String::from_utf8(value).unwrap().parse::<i64>().unwrap() + by;
                let result = open.staged.increment(space, &AMPLE, &key, by);
                assert_eq!(result, Ok(sum));
                open.write(model, &key, Some((bytes(sum), until)));
            }
            Step::Get(set, key) => {
                let (open, key) = (&sets[set], key.to_string());
                let found = open.staged.get(space, &AMPLE, &key).unwrap();
                let expected = open.view(model, &key).map(|(value, _)| value);
                assert_eq!(found.as_deref(), expected.as_deref());
            }
            Step::List(set) => {
                let open = &sets[set];
                let listed = open.staged.list(space, &AMPLE, "", None, 9).unwrap();
                let keys = (0u8..4).map(|key| key.to_string());
                let there = |key: &String| match open.keys.get(key) {
                    Some(change) => change.is_some(),
                    None => model.live(key, open.now).is_some(),
                };
                assert_eq!(listed, keys.filter(there).collect::<Vec<_>>());
            }
            _ => unreachable!("{step:?} is not about keys"),
        }
    }

    fn sweep(&mut self) {
        for set in 0..SETS {
            self.finish(set);
        }
        self.now += 20_000;
        self.sets = (0..SETS).map(|_| OpenSet::new(self.now)).collect();
        let changed = format!("at {}", self.now);
        let mut open = OpenSet::new(self.now);
        open.staged
            .set(&self.space, &AMPLE, "sweep", Some(changed.as_bytes()))
            .unwrap();
        open.write(&self.model, "sweep", Some((changed.into_bytes(), None)));
        self.space.apply(std::mem::take(&mut open.staged)).unwrap();
        assert!(open.apply(&mut self.model));
        let now = self.now;
        let live = |(_, entry): &(&String, &Entry)| entry.1.is_none_or(|until| now < until);
        let live: Vec<_> = self.model.keys.iter().filter(live).collect();
        assert_eq!(self.space.keys(), live.len(), "what has expired is gone");
        let bytes = live.iter().map(|(key, entry)| key.len() + entry.0.len());
        assert_eq!(self.space.bytes(), bytes.sum::<usize>());
        // Its own key is not among those that `List` expects.
        let mut open = OpenSet::new(self.now);
        open.staged.set(&self.space, &AMPLE, "sweep", None).unwrap();
        open.write(&self.model, "sweep", None);
        self.space.apply(std::mem::take(&mut open.staged)).unwrap();
        assert!(open.apply(&mut self.model));
    }

    fn reopen(&mut self) {
        self.sets = (0..SETS).map(|_| OpenSet::new(self.now)).collect();
        let Some((dir, store)) = self.store.take() else {
            self.space = Space::copy_of(&self.space);
            return;
        };
        self.space = Space::detached("none");
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        self.space = store.space("seats");
        self.store = Some((dir, store));
    }

    fn check(&self) {
        self.space.kept().check();
        for key in (0u8..4).map(|key| key.to_string()) {
            let found = Staged::new(UnixMs(self.now)).get(&self.space, &AMPLE, &key);
            let expected = self.model.live(&key, self.now).map(|(value, _)| value);
            assert_eq!(found.unwrap().as_deref(), expected.as_deref());
        }
        let copy = Space::copy_of(&self.space);
        let mut timers: Vec<_> = copy.due(UnixMs(u64::MAX), 99);
        timers.sort_by(|a, b| a.key.cmp(&b.key));
        let timers = timers.into_iter();
        let timers = timers.map(|timer| (timer.key.to_string(), (timer.due.0, timer.every)));
        assert_eq!(timers.collect::<BTreeMap<_, _>>(), self.model.timers);
    }
}

fn run(steps: Vec<Step>, durable: bool) {
    let mut run = Run::new(durable);
    for step in steps {
        run.step(step);
        run.check();
    }
    run.reopen();
    run.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_space_in_memory_does_what_a_simple_model_does(steps in steps()) {
        run(steps, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn a_space_on_disk_does_what_a_simple_model_does(steps in steps()) {
        run(steps, true);
    }
}
