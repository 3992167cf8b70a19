//! What a replay has found, for programs and for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    model::{Hook, RoomId, UnixMs},
    plugin::{
        call::{Action, Amendment},
        record::{ImportCall, Outcome, Published},
    },
};

/// What a replay has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    /// The plugin's name in the recording.
    pub plugin: String,
    /// The components that were recorded, as `sha256:…`, in order.
    pub recorded: Vec<String>,
    /// The component that the calls were replayed through.
    pub component: String,
    /// Calls that were replayed.
    pub calls: u64,
    /// Of these, how many came out otherwise.
    pub differing: u64,
    /// The same by hook. A hook that is not here was never called.
    pub hooks: BTreeMap<Hook, HookCount>,
    /// Hooks that the component has and the recording has no call of.
    pub untried: Vec<Hook>,
    /// Instances that the component could not start, each with its calls' differences.
    pub not_started: u64,
    /// The differences, in the order of the calls; the first ones, if there are very many.
    pub differences: Vec<Difference>,
    /// Instructions that all calls took together, which is the same each time.
    pub instructions: u64,
    /// What the recording lacks.
    pub gaps: Gaps,
}

/// Calls of one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HookCount {
    /// All.
    pub calls: u64,
    /// Those that came out otherwise.
    pub differing: u64,
}

/// What a recording lacks, and what follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gaps {
    /// Lines that are no lines of a recording, such as a torn last one.
    pub damaged_lines: u64,
    /// Calls of other plugins.
    pub of_others: u64,
    /// Calls of instances whose beginning is not there: not replayed.
    pub of_unknown_instances: u64,
    /// Numbers that are missing between two calls: the server could not record those.
    pub missing: u64,
    /// Instances that began before the recording: what they remembered is not known.
    pub begun_before: u64,
    /// Calls of which the recording has only the first imports: what they found in the
    /// storage is known in part, and timers are not compared.
    pub truncated: u64,
    /// Calls that failed in the recording. They are compared, and without effect here too.
    pub failed: u64,
    /// Calls that were without effect in the recording because nobody waited for them any
    /// more, or because they were made again.
    pub undone: u64,
    /// Keys that changed without a recorded call changing them: they were changed likewise.
    pub unexplained_keys: u64,
}

/// A call that came out otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The call's number in the recording; 0 for `init`.
    pub seq: u64,
    /// The instance's number in the recording.
    pub instance: u64,
    /// The hook.
    pub hook: Hook,
    /// Where; `None` for `init`.
    pub room: Option<RoomId>,
    /// The call's time.
    pub at: UnixMs,
    /// What is otherwise.
    pub parts: Vec<Part>,
    /// What came out in the recording.
    pub recorded: Side,
    /// What came out now.
    pub replayed: Side,
}

/// What can be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// One of the two failed, or both in different ways.
    Failure,
    /// One allows and the other refuses, or both refuse with different codes.
    Verdict,
    /// The same code with another message, or with other details.
    Refusal,
    /// What a command answers, or a newcomer is shown.
    Answer,
    /// How a producer begins.
    Amendment,
    /// What is to be done, or its order.
    Actions,
    /// Events for the outside, or their order.
    Published,
    /// Timers that were set or cancelled.
    Timers,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Verdict => "verdict",
            Self::Refusal => "refusal",
            Self::Answer => "answer",
            Self::Amendment => "amendment",
            Self::Actions => "actions",
            Self::Published => "published",
            Self::Timers => "timers",
        }
    }
}

/// What came out of a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// What the asker got.
    pub outcome: Outcome,
    /// How a producer begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amendment: Option<Amendment>,
    /// What was to be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
    /// What was published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Calls that set or cancelled timers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<ImportCall>,
}

impl Side {
    /// What is otherwise.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Vec<Part> {
        let mut parts = Vec::new();
        parts.extend(compare_outcomes(&self.outcome, &other.outcome));
        let mut note = |part, differs| {
            if differs {
                parts.push(part);
            }
        };
        note(Part::Amendment, self.amendment != other.amendment);
        note(Part::Actions, self.actions != other.actions);
        note(Part::Published, self.published != other.published);
        note(Part::Timers, self.timers != other.timers);
        parts
    }
}

fn compare_outcomes(one: &Outcome, other: &Outcome) -> Option<Part> {
    match (one, other) {
        // What a trap says names places in the component.
        (Outcome::Failed(_), Outcome::Failed(_)) if one.kind() == other.kind() => None,
        (Outcome::Failed(_), _) | (_, Outcome::Failed(_)) => Some(Part::Failure),
        (Outcome::Refuse(one), Outcome::Refuse(other)) if one.code == other.code => {
            (one != other).then_some(Part::Refusal)
        }
        (Outcome::Refuse(_), _) | (_, Outcome::Refuse(_)) => Some(Part::Verdict),
        (
            Outcome::Reply(one) | Outcome::Shown(one),
            Outcome::Reply(other) | Outcome::Shown(other),
        ) => {
            // A recording does not tell JSON's null from nothing.
            let value = |value: &Option<_>| value.clone().unwrap_or_default();
            (value(one) != value(other)).then_some(Part::Answer)
        }
        _ => (one != other).then_some(Part::Answer),
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} calls replayed", self.plugin, self.calls)?;
        for component in &self.recorded {
            writeln!(f, "  recorded  {component}")?;
        }
        writeln!(f, "  replayed  {}", self.component)?;
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        let more = self.differing - (self.differences.len() as u64).min(self.differing);
        if more > 0 {
            writeln!(f, "\n… and {more} more that differ")?;
        }
        writeln!(f)?;
        for (hook, count) in &self.hooks {
            let HookCount { calls, differing } = count;
            writeln!(
                f,
                "  {:<20}{calls:>8} calls{differing:>8} differ",
                hook.name()
            )?;
        }
        if !self.untried.is_empty() {
            let names: Vec<_> = self.untried.iter().map(|hook| hook.name()).collect();
            writeln!(f, "  not in the recording: {}", names.join(", "))?;
        }
        self.gaps.fmt(f)?;
        match self.differing {
            0 => writeln!(f, "No differences."),
            1 => writeln!(f, "1 call differs."),
            many => writeln!(f, "{many} calls differ."),
        }
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = [
            (self.damaged_lines, "damaged lines, skipped"),
            (self.of_others, "calls of other plugins, skipped"),
            (
                self.of_unknown_instances,
                "calls of instances whose beginning is not in the recording, skipped",
            ),
            (self.missing, "calls that the server could not record"),
            (
                self.begun_before,
                "instances that began before the recording, with a memory that is not known",
            ),
            (
                self.truncated,
                "calls that asked for so much that only the beginning is recorded",
            ),
            (
                self.failed,
                "calls that failed in the recording, without effect here too",
            ),
            (
                self.undone,
                "calls that were undone in the recording, without effect here too",
            ),
            (
                self.unexplained_keys,
                "keys that something changed which is not in the recording",
            ),
        ];
        for (number, what) in lines {
            if number > 0 {
                writeln!(f, "  note: {what}: {number}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.parts.iter().map(|part| part.name()).collect();
        write!(f, "#{} {}", self.seq, self.hook)?;
        if let Some(room) = &self.room {
            write!(f, " in {room:?}")?;
        }
        writeln!(f, ": {}", parts.join(", "))?;
        for part in &self.parts {
            writeln!(f, "  - {}", self.recorded.show(*part))?;
            writeln!(f, "  + {}", self.replayed.show(*part))?;
        }
        Ok(())
    }
}

impl Side {
    fn show(&self, part: Part) -> String {
        match part {
            Part::Failure | Part::Verdict | Part::Refusal | Part::Answer => json(&self.outcome),
            Part::Amendment => json(&self.amendment),
            Part::Actions => json(&self.actions),
            Part::Published => json(&self.published),
            Part::Timers => json(&self.timers),
        }
    }
}

/// JSON on one line. Values of these types always serialise.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugin::Refused;

    fn side(outcome: Outcome) -> Side {
        Side {
            outcome,
            amendment: None,
            actions: Vec::new(),
            published: Vec::new(),
            timers: Vec::new(),
        }
    }

    fn refuse(code: &str, message: &str) -> Outcome {
        Outcome::Refuse(Refused {
            code: code.to_owned(),
            message: message.to_owned(),
            details: None,
        })
    }

    #[test]
    fn outcomes_differ_in_the_part_that_matters_most() {
        let failed = |text: &str| Outcome::Failed(text.to_owned());
        let cases = [
            (Outcome::Allow, Outcome::Allow, None),
            (Outcome::Allow, refuse("A", "x"), Some(Part::Verdict)),
            (refuse("A", "x"), refuse("B", "x"), Some(Part::Verdict)),
            (refuse("A", "x"), refuse("A", "y"), Some(Part::Refusal)),
            (refuse("A", "x"), Outcome::Reply(None), Some(Part::Verdict)),
            (
                Outcome::Reply(None),
                Outcome::Reply(Some(json!(null))),
                None,
            ),
            (
                Outcome::Reply(Some(json!(1))),
                Outcome::Reply(Some(json!(2))),
                Some(Part::Answer),
            ),
            (failed("trapped: a"), failed("trapped: b"), None),
            (
                failed("trapped: a"),
                failed("timed-out"),
                Some(Part::Failure),
            ),
            (failed("timed-out"), Outcome::Allow, Some(Part::Failure)),
        ];
        for (one, other, expected) in cases {
            let parts = side(one.clone()).compare(&side(other.clone()));
            assert_eq!(parts.first().copied(), expected, "{one:?} {other:?}");
        }
    }
}
