//! What each hook is given: its time, and what holds where it fails.

use std::time::Duration;

use super::super::{
    kind::{self, Choice},
    reader::Section,
};
use crate::model::Hook;

/// What stands for the answer of a hook that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Deciding: the request is refused.
    Deny,
    /// Deciding: the request goes on as if the plugin had allowed it.
    Allow,
    /// Informing: told again, to a fresh instance, until it is taken.
    Retry,
    /// Informing: not told again.
    Drop,
}

/// What one hook is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPolicy {
    /// Processor time of one call (`time_budgets_ms.<hook>`, else `time_budget_ms`).
    /// Default 50 ms; of `init`, for which nobody waits, at least 1 s.
    pub time_budget: Duration,
    /// `on_failure.<hook>`. Default: deny for hooks that decide; retry for
    /// `on_room_closed`, `on_leave`, `on_first_rtp`, `on_producer_paused`,
    /// `on_producer_resumed`, `on_producer_closed` and `on_timer`; drop for the other ones that inform.
    pub on_failure: OnFailure,
}

/// A [`HookPolicy`] for each hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPolicies(Vec<HookPolicy>);

impl Default for HookPolicies {
    fn default() -> Self {
        let default = |hook: &Hook| HookPolicy {
            time_budget: default_budget(*hook, Self::TIME_BUDGET),
            on_failure: default_policy(*hook),
        };
        Self(Hook::ALL.iter().map(default).collect())
    }
}

impl HookPolicies {
    /// The time budget where nothing else is said.
    pub const TIME_BUDGET: Duration = Duration::from_millis(50);

    /// That of `init`, at least.
    pub const INIT_BUDGET: Duration = Duration::from_secs(1);

    /// The policy of a hook.
    #[must_use]
    pub fn of(&self, hook: Hook) -> HookPolicy {
        self.0.get(hook as usize).copied().unwrap_or(HookPolicy {
            time_budget: Self::TIME_BUDGET,
            on_failure: default_policy(hook),
        })
    }

    /// With another policy on failure of one hook.
    #[must_use]
    pub fn on_failure(mut self, hook: Hook, on_failure: OnFailure) -> Self {
        if let Some(policy) = self.0.get_mut(hook as usize) {
            policy.on_failure = on_failure;
        }
        self
    }

    /// With another time budget of one hook.
    #[must_use]
    pub fn time_budget_of(mut self, hook: Hook, budget: Duration) -> Self {
        if let Some(policy) = self.0.get_mut(hook as usize) {
            policy.time_budget = budget;
        }
        self
    }

    /// With one time budget for all hooks.
    #[must_use]
    pub fn time_budget(mut self, budget: Duration) -> Self {
        for policy in &mut self.0 {
            policy.time_budget = budget;
        }
        self
    }
}

/// Where nothing is said of this very hook.
fn default_budget(hook: Hook, of_all: Duration) -> Duration {
    match hook {
        Hook::Init => of_all.max(HookPolicies::INIT_BUDGET),
        _ => of_all,
    }
}

/// Loss of what these tell would be a loss to the plugin's users.
fn default_policy(hook: Hook) -> OnFailure {
    match hook {
        Hook::OnRoomClosed
        | Hook::OnLeave
        | Hook::OnFirstRtp
        | Hook::OnProducerPaused
        | Hook::OnProducerResumed
        | Hook::OnProducerClosed
        | Hook::OnTimer => OnFailure::Retry,
        hook if hook.informs() => OnFailure::Drop,
        _ => OnFailure::Deny,
    }
}

pub(super) fn hooks(section: &mut Section<'_>) -> HookPolicies {
    let budget = kind::millis(1..=10_000);
    let all = section.value("time_budget_ms", &budget, HookPolicies::TIME_BUDGET);
    let policies = Hook::ALL.iter().map(|hook| {
        let key = format!("time_budgets_ms.{}", hook.key());
        let time_budget = section
            .optional(&key, &budget)
            .unwrap_or_else(|| default_budget(*hook, all));
        let (key, default) = (format!("on_failure.{}", hook.key()), default_policy(*hook));
        let on_failure = if hook.decides() {
            let chosen = section.value(&key, &kind::choice(), Decides::from(default));
            OnFailure::from(chosen)
        } else if hook.informs() {
            let chosen = section.value(&key, &kind::choice(), Informs::from(default));
            OnFailure::from(chosen)
        } else {
            default
        };
        HookPolicy {
            time_budget,
            on_failure,
        }
    });
    HookPolicies(policies.collect())
}

/// The policies of hooks that decide.
#[derive(Clone, Copy, PartialEq)]
enum Decides {
    Deny,
    Allow,
}

/// The policies of hooks that inform.
#[derive(Clone, Copy, PartialEq)]
enum Informs {
    Retry,
    Drop,
}

impl From<OnFailure> for Decides {
    fn from(policy: OnFailure) -> Self {
        match policy {
            OnFailure::Allow => Self::Allow,
            OnFailure::Deny | OnFailure::Retry | OnFailure::Drop => Self::Deny,
        }
    }
}

impl From<OnFailure> for Informs {
    fn from(policy: OnFailure) -> Self {
        match policy {
            OnFailure::Retry => Self::Retry,
            OnFailure::Drop | OnFailure::Allow | OnFailure::Deny => Self::Drop,
        }
    }
}

impl From<Decides> for OnFailure {
    fn from(policy: Decides) -> Self {
        match policy {
            Decides::Deny => Self::Deny,
            Decides::Allow => Self::Allow,
        }
    }
}

impl From<Informs> for OnFailure {
    fn from(policy: Informs) -> Self {
        match policy {
            Informs::Retry => Self::Retry,
            Informs::Drop => Self::Drop,
        }
    }
}

impl Choice for Decides {
    const WORDS: &'static [(&'static str, Self)] = &[("deny", Self::Deny), ("allow", Self::Allow)];
}

impl Choice for Informs {
    const WORDS: &'static [(&'static str, Self)] = &[("retry", Self::Retry), ("drop", Self::Drop)];
}
