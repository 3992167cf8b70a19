//! A scenario on a component: the calls that a server would make, and what they came to.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    matching::fill_in,
    scenario::{Deed, Scenario, Step},
    scene::{Impossible, Scene},
    verdict::{self, Mismatch},
};
use crate::{
    config::PluginConfig,
    model::{Hook, UnixMs},
    plugin::{
        Amendment, Called, Input, LoadError, Offline, OfflineOptions, Outcome, Published, Refused,
    },
};

/// Calls that one step may bring about: a plugin's actions can be answered by actions.
const MOST_CALLS: usize = 100_000;

/// How a scenario went.
#[derive(Debug, Default)]
pub(super) struct Played {
    /// Steps that were played.
    pub(super) steps: usize,
    pub(super) failures: Vec<StepFailure>,
}

/// A step that did not come to what is expected, or could not be played.
#[derive(Debug, Serialize)]
pub(super) struct StepFailure {
    /// From 1.
    pub(super) step: usize,
    /// In the scenario's file.
    pub(super) line: usize,
    /// What was to happen.
    pub(super) deed: String,
    #[serde(flatten)]
    pub(super) mismatch: Mismatch,
}

/// What all calls of a step together have come to.
#[derive(Debug, Default)]
pub(super) struct Happened {
    pub(super) hooks: Vec<Hook>,
    pub(super) refused: Option<Refused>,
    pub(super) failed: Option<(Hook, String)>,
    pub(super) answer: Option<Value>,
    pub(super) amendment: Option<Amendment>,
    pub(super) actions: Vec<Value>,
    pub(super) published: Vec<Published>,
}

/// What is asked may happen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Yes,
    No,
}

struct Play {
    offline: Offline,
    hooks: Vec<Hook>,
    scene: Scene,
    happened: Happened,
}

/// Plays all steps. After one that cannot be played, the rest would mean nothing.
///
/// # Errors
///
/// If the component cannot be loaded.
pub(super) async fn play(
    scenario: &Scenario,
    config: &PluginConfig,
    options: OfflineOptions,
) -> Result<Played, LoadError> {
    let config = PluginConfig {
        settings: scenario.settings.clone(),
        ..config.clone()
    };
    let options = OfflineOptions {
        seed: scenario.keys.iter().map(stored).collect(),
        ..options
    };
    let loaded = Offline::load(&config, options).await;
    let offline = loaded.map_err(|problem| LoadError {
        problems: vec![problem],
    })?;
    let mut play = Play {
        hooks: offline.hooks(),
        offline,
        scene: Scene::new(scenario),
        happened: Happened::default(),
    };
    let mut played = Played::default();
    for (place, step) in scenario.steps.iter().enumerate() {
        played.steps += 1;
        let found = play.step(step).await;
        let could_be_played = found.is_ok();
        let mismatches = found.unwrap_or_else(|why| vec![Mismatch::impossible(&why)]);
        let failures = mismatches.into_iter().map(|mismatch| StepFailure {
            step: place + 1,
            line: step.line,
            deed: step.deed.to_string(),
            mismatch,
        });
        played.failures.extend(failures);
        if !could_be_played {
            break;
        }
    }
    Ok(played)
}

/// A key as plugins store it: JSON.
fn stored((key, value): (&String, &Value)) -> (String, Vec<u8>) {
    (key.clone(), value.to_string().into_bytes())
}

impl Play {
    async fn step(&mut self, step: &Step) -> Result<Vec<Mismatch>, Impossible> {
        self.happened = Happened::default();
        self.happen(&step.deed).await?;
        let keys = self.offline.keys_at(self.scene.now).collect();
        let known = |name: &str| self.scene.known(name);
        verdict::compare(&step.expect, &self.happened, &keys, &known)
    }

    async fn happen(&mut self, deed: &Deed) -> Result<(), Impossible> {
        match deed {
            Deed::Join {
                who,
                room,
                known_as,
            } => {
                let (newcomer, ask) =
                    self.scene
                        .newcomer(who, room.as_ref(), known_as.as_deref())?;
                if self.ask(ask).await? == Verdict::Yes {
                    let facts = self.scene.enter(newcomer);
                    self.tell(facts).await?;
                }
            }
            Deed::Produce { who, source } => {
                let ask = self.scene.asks_to_produce(who, *source)?;
                if self.ask(ask).await? == Verdict::Yes {
                    let amendment = self.happened.amendment.as_ref();
                    let muted = amendment.is_some_and(|amendment| amendment.muted);
                    let facts = self.scene.produce(who, *source, muted)?;
                    self.tell(facts).await?;
                }
            }
            Deed::Consume { who, from, source } => {
                let ask = self.scene.consume(who, from, *source)?;
                self.ask(ask).await?;
            }
            Deed::Leave { who, reason } => {
                let facts = self.scene.leave(who, reason)?;
                self.tell(facts).await?;
            }
            Deed::FirstRtp { who, source } => {
                let fact = self.scene.first_rtp(who, *source)?;
                self.tell(vec![fact]).await?;
            }
            Deed::Pause {
                who,
                source,
                cause,
                ago,
            } => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                let since = UnixMs(self.scene.now.0.saturating_sub(ago));
                let fact = self.scene.pause(who, *source, *cause, since)?;
                self.tell(fact.into_iter().collect()).await?;
            }
            Deed::Resume { who, source } => {
                let fact = self.scene.resume(who, *source)?;
                self.tell(fact.into_iter().collect()).await?;
            }
            Deed::Close {
                who,
                source,
                reason,
            } => {
                let fact = self.scene.close(who, *source, reason)?;
                self.tell(fact.into_iter().collect()).await?;
            }
            Deed::Speakers { who, room } => {
                let fact = self.scene.speakers(who, room.as_ref())?;
                self.tell(vec![fact]).await?;
            }
            Deed::Command { name, by, payload } => {
                self.command(name, by, &Value::Object(payload.clone()))
                    .await?;
            }
            Deed::Advance(time) => {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                self.advance(UnixMs(self.scene.now.0.saturating_add(millis)))
                    .await?;
            }
            Deed::ReplaceInstance => self.replace_instance().await?,
            Deed::Restart => {
                self.scene.forget();
                self.replace_instance().await?;
            }
            Deed::Recover => {
                let facts = self.scene.recover();
                self.tell(facts).await?;
            }
            Deed::Hook { hook, input } => self.raw(*hook, input).await?,
        }
        Ok(())
    }

    async fn command(&mut self, name: &str, by: &str, payload: &Value) -> Result<(), Impossible> {
        if !self.offline.commands().iter().any(|known| known == name) {
            let known = self.offline.commands().join(", ");
            return Err(format!(
                "the plugin has not registered `{name}`, but: {known}"
            ));
        }
        let payload =
            fill_in(payload, &|name| self.scene.known(name)).map_err(|name| unknown(&name))?;
        let ask = self.scene.command(by, name, payload)?;
        self.ask(ask).await.map(drop)
    }

    async fn raw(&mut self, hook: Hook, input: &Value) -> Result<(), Impossible> {
        if !self.hooks.contains(&hook) || hook == Hook::Init {
            return Err(format!("the component does not export `{hook}`"));
        }
        let input =
            fill_in(input, &|name| self.scene.known(name)).map_err(|name| unknown(&name))?;
        let call = serde_json::from_value(json!({ "hook": hook, "input": input }));
        let call: Input = call.map_err(|error| format!("`input` is no call of {hook}: {error}"))?;
        self.ask(call).await.map(drop)
    }

    /// Time passes. Timers fire at their time, in its order.
    async fn advance(&mut self, until: UnixMs) -> Result<(), Impossible> {
        while let Some(due) = self.offline.next_due().filter(|due| *due <= until) {
            self.scene.now = self.scene.now.max(due);
            let Some(input) = self.offline.due_timer(self.scene.now) else {
                break;
            };
            if !self.hooks.contains(&Hook::OnTimer) {
                return Err("a timer is due, but the component does not export `on-timer`".into());
            }
            let call = self.scene.timer(input);
            self.tell(vec![call]).await?;
        }
        self.scene.now = until;
        Ok(())
    }

    async fn replace_instance(&mut self) -> Result<(), Impossible> {
        let replaced = self.offline.replace_instance().await;
        replaced.map_err(|problem| format!("the plugin {}", problem.problem))
    }

    /// Asks, and carries out the actions of the answer.
    async fn ask(&mut self, input: Input) -> Result<Verdict, Impossible> {
        if !self.hooks.contains(&input.hook()) {
            return Ok(Verdict::Yes);
        }
        let (called, facts) = self.call(&input).await;
        self.tell(facts).await?;
        Ok(match called.outcome {
            Outcome::Refuse(_) | Outcome::Failed(_) => Verdict::No,
            _ => Verdict::Yes,
        })
    }

    /// Tells what has happened, and what follows from the plugin's actions, until nothing does.
    async fn tell(&mut self, facts: Vec<Input>) -> Result<(), Impossible> {
        let mut facts = VecDeque::from(facts);
        while let Some(fact) = facts.pop_front() {
            if !self.hooks.contains(&fact.hook()) {
                continue;
            }
            if self.happened.hooks.len() >= MOST_CALLS {
                return Err(format!("it brings about more than {MOST_CALLS} calls"));
            }
            facts.extend(self.call(&fact).await.1);
        }
        Ok(())
    }

    /// Calls the plugin, notes what came of it, and what follows from its actions.
    async fn call(&mut self, input: &Input) -> (Called, Vec<Input>) {
        let called = self.offline.call(input).await;
        self.happened.note(input.hook(), &called);
        let mut facts = Vec::new();
        for action in &called.actions {
            facts.extend(self.scene.carry_out(input.room(), action));
        }
        (called, facts)
    }
}

impl Happened {
    fn note(&mut self, hook: Hook, called: &Called) {
        self.hooks.push(hook);
        match &called.outcome {
            Outcome::Refuse(refused) => self.refused = Some(refused.clone()),
            Outcome::Failed(why) => self.failed = Some((hook, why.clone())),
            Outcome::Reply(answer) | Outcome::Shown(answer) => self.answer.clone_from(answer),
            Outcome::Allow | Outcome::Noted => {}
        }
        if let Some(amendment) = &called.amendment {
            self.amendment = Some(amendment.clone());
        }
        self.actions
            .extend(called.actions.iter().map(|action| json!(action)));
        self.published.extend(called.published.iter().cloned());
    }
}

fn unknown(name: &str) -> Impossible {
    format!("nothing is known as `${{{name}}}` (yet)")
}
