//! The format of scenarios: TOML, as `voice-room plugin test --help` describes it.

mod time;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};
use toml::{Spanned, value::Datetime};

use self::time::{Span, unix_ms};
use crate::model::{Hook, PauseCause, RoomId, Source, UnixMs};

/// As in the SDK's test kit.
const START: UnixMs = UnixMs(1_700_000_000_000);

/// A scene and what is expected of the plugin in it.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) description: Option<String>,
    pub(super) start: UnixMs,
    pub(super) room: RoomId,
    pub(super) settings: Value,
    pub(super) keys: BTreeMap<String, Value>,
    pub(super) users: BTreeMap<String, UserSpec>,
    pub(super) steps: Vec<Step>,
}

/// Somebody who appears.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserSpec {
    pub(super) id: u64,
    pub(super) name: Option<String>,
    pub(super) avatar: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) claims: Map<String, Value>,
}

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// In the file, from 1.
    pub(super) line: usize,
    pub(super) deed: Deed,
    pub(super) expect: Expect,
}

/// What happens in a step. People are named as the scenario names them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Deed {
    Join {
        who: String,
        room: Option<RoomId>,
        known_as: Option<String>,
    },
    Leave {
        who: String,
        reason: String,
    },
    Produce {
        who: String,
        source: Source,
    },
    FirstRtp {
        who: String,
        source: Source,
    },
    Pause {
        who: String,
        source: Source,
        cause: PauseCause,
        /// How long ago.
        ago: Duration,
    },
    Resume {
        who: String,
        source: Source,
    },
    Consume {
        who: String,
        from: String,
        source: Source,
    },
    Close {
        who: String,
        source: Source,
        reason: String,
    },
    Speakers {
        who: Vec<String>,
        room: Option<RoomId>,
    },
    Command {
        name: String,
        by: String,
        payload: Map<String, Value>,
    },
    Advance(Duration),
    ReplaceInstance,
    Restart,
    Recover,
    /// A call as the contract has it.
    Hook {
        hook: Hook,
        input: Value,
    },
}

/// What a step is to come to. What is not named is not looked at, except that a step must be
/// allowed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) refused: Option<String>,
    pub(super) message: Option<String>,
    pub(super) details: Option<Value>,
    pub(super) failed: Option<String>,
    pub(super) answer: Option<Value>,
    pub(super) amendment: Option<Value>,
    pub(super) actions: Option<Vec<Value>>,
    pub(super) actions_contain: Option<Vec<Value>>,
    pub(super) published: Option<Vec<Value>>,
    pub(super) published_contain: Option<Vec<Value>>,
    #[serde(default)]
    pub(super) keys: BTreeMap<String, Value>,
    pub(super) hooks: Option<Vec<Hook>>,
}

/// Why a file is no scenario.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    description: Option<String>,
    start: Option<Datetime>,
    room: Option<RoomId>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    keys: BTreeMap<String, Value>,
    #[serde(default)]
    users: BTreeMap<String, UserSpec>,
    #[serde(default)]
    step: Vec<Spanned<Written>>,
}

/// A step as it is written: one deed, and what belongs to it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    join: Option<String>,
    leave: Option<String>,
    produce: Option<String>,
    first_rtp: Option<String>,
    pause: Option<String>,
    resume: Option<String>,
    consume: Option<String>,
    close: Option<String>,
    speakers: Option<Vec<String>>,
    command: Option<String>,
    advance: Option<Span>,
    replace_instance: Option<Yes>,
    restart: Option<Yes>,
    recover: Option<Yes>,
    hook: Option<Hook>,

    room: Option<RoomId>,
    #[serde(rename = "as")]
    known_as: Option<String>,
    reason: Option<String>,
    source: Option<Source>,
    cause: Option<PauseCause>,
    ago: Option<Span>,
    from: Option<String>,
    by: Option<String>,
    payload: Option<Map<String, Value>>,
    input: Option<Value>,

    #[serde(default)]
    expect: Expect,
}

impl Scenario {
    /// Reads a file's text.
    pub(super) fn read(text: &str) -> Result<Self, Malformed> {
        let line = |at: usize| {
            let before = text.get(..at).unwrap_or(text);
            before.matches('\n').count() + 1
        };
        let document: Document = toml::from_str(text).map_err(|error| Malformed {
            line: error.span().map_or(1, |span| line(span.start)),
            problem: error.message().to_owned(),
        })?;
        let start = match document.start {
            Some(written) => unix_ms(&written).map_err(|problem| Malformed {
                line: text.find("start").map_or(1, line),
                problem,
            })?,
            None => START,
        };
        let mut steps = Vec::with_capacity(document.step.len());
        for written in document.step {
            let line = line(written.span().start);
            let step = written.into_inner().step(line);
            steps.push(step.map_err(|problem| Malformed { line, problem })?);
        }
        if steps.is_empty() {
            return Err(Malformed {
                line: 1,
                problem: "there is no [[step]]".to_owned(),
            });
        }
        let lobby = || RoomId::new("lobby");
        let room = document.room.or_else(lobby).ok_or_else(|| Malformed {
            line: 1,
            problem: "there is no room".to_owned(),
        })?;
        Ok(Self {
            description: document.description,
            start,
            room,
            settings: Value::Object(document.settings),
            keys: document.keys,
            users: document.users,
            steps,
        })
    }
}

impl Written {
    fn step(mut self, line: usize) -> Result<Step, String> {
        let expect = std::mem::take(&mut self.expect);
        let Some(deed) = self.deed()? else {
            return Err("a step does something: join, leave, produce, …".to_owned());
        };
        match self.left_over() {
            Some(key) => Err(format!("`{key}` does not belong to `{}`", deed.name())),
            None => Ok(Step { line, deed, expect }),
        }
    }

    /// Takes the deed and all that belongs to it.
    fn deed(&mut self) -> Result<Option<Deed>, String> {
        Ok(Some(if let Some(who) = self.join.take() {
            Deed::Join {
                who,
                room: self.room.take(),
                known_as: self.known_as.take(),
            }
        } else if let Some(who) = self.leave.take() {
            Deed::Leave {
                who,
                reason: self.reason("left"),
            }
        } else if let Some(who) = self.produce.take() {
            let source = self.source();
            Deed::Produce { who, source }
        } else if let Some(who) = self.first_rtp.take() {
            let source = self.source();
            Deed::FirstRtp { who, source }
        } else if let Some(who) = self.pause.take() {
            Deed::Pause {
                who,
                source: self.source(),
                cause: self.cause.take().unwrap_or(PauseCause::User),
                ago: self.ago.take().map_or(Duration::ZERO, |Span(time)| time),
            }
        } else if let Some(who) = self.resume.take() {
            let source = self.source();
            Deed::Resume { who, source }
        } else if let Some(who) = self.consume.take() {
            Deed::Consume {
                who,
                from: needed(self.from.take(), "consume", "from")?,
                source: self.source(),
            }
        } else if let Some(who) = self.close.take() {
            Deed::Close {
                who,
                source: self.source(),
                reason: self.reason("closed"),
            }
        } else if let Some(who) = self.speakers.take() {
            let room = self.room.take();
            Deed::Speakers { who, room }
        } else if let Some(name) = self.command.take() {
            Deed::Command {
                name,
                by: needed(self.by.take(), "command", "by")?,
                payload: self.payload.take().unwrap_or_default(),
            }
        } else if let Some(hook) = self.hook.take() {
            let input = needed(self.input.take(), "hook", "input")?;
            Deed::Hook { hook, input }
        } else if let Some(Span(time)) = self.advance.take() {
            Deed::Advance(time)
        } else if self.replace_instance.take().is_some() {
            Deed::ReplaceInstance
        } else if self.restart.take().is_some() {
            Deed::Restart
        } else if self.recover.take().is_some() {
            Deed::Recover
        } else {
            return Ok(None);
        }))
    }

    fn source(&mut self) -> Source {
        self.source.take().unwrap_or_default()
    }

    fn reason(&mut self, default: &str) -> String {
        self.reason.take().unwrap_or_else(|| default.to_owned())
    }

    /// A key that nothing has taken.
    fn left_over(&self) -> Option<&'static str> {
        let keys = [
            ("join", self.join.is_some()),
            ("leave", self.leave.is_some()),
            ("produce", self.produce.is_some()),
            ("first-rtp", self.first_rtp.is_some()),
            ("pause", self.pause.is_some()),
            ("resume", self.resume.is_some()),
            ("consume", self.consume.is_some()),
            ("close", self.close.is_some()),
            ("speakers", self.speakers.is_some()),
            ("command", self.command.is_some()),
            ("hook", self.hook.is_some()),
            ("advance", self.advance.is_some()),
            ("replace-instance", self.replace_instance.is_some()),
            ("restart", self.restart.is_some()),
            ("recover", self.recover.is_some()),
            ("room", self.room.is_some()),
            ("as", self.known_as.is_some()),
            ("reason", self.reason.is_some()),
            ("source", self.source.is_some()),
            ("cause", self.cause.is_some()),
            ("ago", self.ago.is_some()),
            ("from", self.from.is_some()),
            ("by", self.by.is_some()),
            ("payload", self.payload.is_some()),
            ("input", self.input.is_some()),
        ];
        let left = keys.into_iter().find(|(_, is_there)| *is_there);
        left.map(|(key, _)| key)
    }
}

fn needed<T>(value: Option<T>, deed: &str, key: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("`{deed}` needs `{key}`"))
}

impl Deed {
    /// Its key.
    fn name(&self) -> &'static str {
        match self {
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Produce { .. } => "produce",
            Self::FirstRtp { .. } => "first-rtp",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Consume { .. } => "consume",
            Self::Close { .. } => "close",
            Self::Speakers { .. } => "speakers",
            Self::Command { .. } => "command",
            Self::Advance(_) => "advance",
            Self::ReplaceInstance => "replace-instance",
            Self::Restart => "restart",
            Self::Recover => "recover",
            Self::Hook { .. } => "hook",
        }
    }
}

/// As reports name it.
impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { who, .. }
            | Self::Leave { who, .. }
            | Self::Produce { who, .. }
            | Self::FirstRtp { who, .. }
            | Self::Pause { who, .. }
            | Self::Resume { who, .. }
            | Self::Consume { who, .. }
            | Self::Close { who, .. } => write!(f, "{} = {who:?}", self.name()),
            Self::Speakers { who, .. } => write!(f, "speakers = {who:?}"),
            Self::Command { name, .. } => write!(f, "command = {name:?}"),
            Self::Advance(time) => write!(f, "advance = \"{}ms\"", time.as_millis()),
            Self::ReplaceInstance | Self::Restart | Self::Recover => {
                write!(f, "{} = true", self.name())
            }
            Self::Hook { hook, .. } => write!(f, "hook = \"{hook}\""),
        }
    }
}

/// `true`, where `false` would say nothing.
struct Yes;

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if bool::deserialize(deserializer)? {
            Ok(Self)
        } else {
            Err(de::Error::custom("can only be true"))
        }
    }
}

#[cfg(test)]
mod tests;
