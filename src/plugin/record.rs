//! What a recording of calls consists of: one JSON object a line.
//!
//! A line of kind `instance` begins each instance of a plugin; a line of kind `call` is one
//! call of a hook with all that went in and all that came out.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    call::{Action, Amendment, Input},
    instance::{Answer, Failure},
};
use crate::model::{Hook, Refusal, UnixMs};

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Line {
    /// An instance begins.
    Instance(InstanceLine),
    /// A hook was called.
    Call(CallLine),
}

/// The beginning of an instance, and its call of `init`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceLine {
    /// Its number, by which its calls name it: unique in one run of the server.
    pub instance: u64,
    /// When the run of the server began.
    pub run: UnixMs,
    /// When it was made.
    pub at: UnixMs,
    /// The plugin's name in the configuration.
    pub plugin: String,
    /// `sha256:` and the component's hash in hexadecimal digits.
    pub component: String,
    /// The version of the contract that the component was built against.
    pub contract: String,
    /// The plugin's settings.
    pub settings: Value,
    /// Seed of the random numbers that the instance was given.
    pub random: u64,
    /// What `init` asked of the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<ImportCall>,
    /// Whether there were more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// [`Outcome::Noted`], or why the instance did not start.
    pub outcome: Outcome,
    /// The line is repeated at the beginning of a further file.
    #[serde(default, skip_serializing_if = "is_false")]
    pub continued: bool,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallLine {
    /// Counts the calls in one run of the server, in the order in which they took effect.
    pub seq: u64,
    /// Which instance was called.
    pub instance: u64,
    /// When the call was over.
    pub at: UnixMs,
    /// What the guest was given: `hook` and `input`.
    #[serde(flatten)]
    pub input: Arc<Input>,
    /// What the guest asked of the server, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<ImportCall>,
    /// Whether there were more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// What the asker got.
    pub outcome: Outcome,
    /// How a producer is to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amendment: Option<Amendment>,
    /// What the guest wanted done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// What it has published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// The call succeeded, and had no effect all the same: its asker had given up, or another
    /// call had changed a key that this one was based on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub undone: bool,
    /// How long it took.
    pub micros: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field over by reference"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

impl CallLine {
    /// Whether what the call did stayed.
    pub(super) fn took_effect(&self) -> bool {
        !self.undone && !matches!(self.outcome, Outcome::Failed(_))
    }
}

/// One call of a function that the server offers to guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportCall {
    /// For example `key-value.get`.
    pub function: Cow<'static, str>,
    /// In the order of the contract. Bytes are a text where they are UTF-8, and otherwise
    /// `{"base64": "…"}`.
    pub arguments: Vec<Value>,
    /// `{"ok": …}` or `{"error": …}` from functions that can fail, else the answer itself.
    pub answer: Value,
}

/// An event for the outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Value,
}

/// A plugin's "no".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Stable identifier in upper snake case.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Further fields for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl From<&Refusal> for Refused {
    fn from(refusal: &Refusal) -> Self {
        Self {
            code: refusal.code.clone(),
            message: refusal.message.clone(),
            details: refusal.details.clone(),
        }
    }
}

/// What a call has come to, for whoever asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Outcome {
    /// A deciding hook allows.
    Allow,
    /// A deciding hook or a command refuses.
    Refuse(Refused),
    /// A command's answer.
    Reply(Option<Value>),
    /// What a newcomer is shown.
    Shown(Option<Value>),
    /// A fact has been taken note of.
    Noted,
    /// The call failed and was undone. One word, and in some cases a colon and more:
    /// `trapped: …`, `timed-out`, `out-of-memory`, `invalid: …`.
    Failed(String),
}

/// An [`Outcome`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Written {
    Verdict(Verdict),
    Reply(Option<Value>),
    Shown(Option<Value>),
    Noted,
    Failure(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Allow,
    Refuse(Refused),
}

impl From<Written> for Outcome {
    fn from(written: Written) -> Self {
        match written {
            Written::Verdict(Verdict::Allow) => Self::Allow,
            Written::Verdict(Verdict::Refuse(refused)) => Self::Refuse(refused),
            Written::Reply(reply) => Self::Reply(reply),
            Written::Shown(shown) => Self::Shown(shown),
            Written::Noted => Self::Noted,
            Written::Failure(failure) => Self::Failed(failure),
        }
    }
}

impl From<Outcome> for Written {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Allow => Self::Verdict(Verdict::Allow),
            Outcome::Refuse(refused) => Self::Verdict(Verdict::Refuse(refused)),
            Outcome::Reply(reply) => Self::Reply(reply),
            Outcome::Shown(shown) => Self::Shown(shown),
            Outcome::Noted => Self::Noted,
            Outcome::Failed(failure) => Self::Failure(failure),
        }
    }
}

impl Outcome {
    /// Its kind in one word: `allow`, `refuse`, `reply`, `shown`, `noted`, or that of a
    /// failure, such as `trapped`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Allow => "allow",
            Self::Refuse(_) => "refuse",
            Self::Reply(_) => "reply",
            Self::Shown(_) => "shown",
            Self::Noted => "noted",
            Self::Failed(failure) => failure.split(':').next().unwrap_or_default(),
        }
    }

    /// What the server takes for the answer of a hook that a component does not have.
    pub(super) fn without(hook: Hook) -> Self {
        match hook {
            Hook::DescribeRoom => Self::Shown(None),
            Hook::OnCommand => Self::Failed("invalid: the hook is not exported".to_owned()),
            hook if hook.decides() => Self::Allow,
            _ => Self::Noted,
        }
    }

    /// The outcome without the amendment, which is returned beside it.
    pub(super) fn of(answer: &Answer) -> (Self, Option<Amendment>) {
        let plain = |outcome| (outcome, None);
        match answer {
            Answer::Verdict(Ok(amendment)) => (Self::Allow, amendment.clone()),
            Answer::Verdict(Err(no)) | Answer::Reply(Err(no)) => plain(Self::Refuse(no.into())),
            Answer::Reply(Ok(reply)) => plain(Self::Reply(reply.clone())),
            Answer::Shown(shown) => plain(Self::Shown(shown.clone())),
            Answer::Noted => plain(Self::Noted),
        }
    }
}

impl From<&Failure> for Outcome {
    fn from(failure: &Failure) -> Self {
        let text = match failure {
            Failure::Trapped(why) => format!("trapped: {why}"),
            Failure::TimedOut => "timed-out".to_owned(),
            Failure::OutOfMemory => "out-of-memory".to_owned(),
            Failure::Invalid(why) => format!("invalid: {why}"),
            other => format!("unanswered: {other}"),
        };
        Self::Failed(text)
    }
}

/// Whole microseconds.
pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
