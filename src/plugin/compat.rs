//! Plugins that were built against an older minor version of the contract.
//!
//! A minor version only adds. So an older component's imports are a part of ours, linked
//! once more under their old names; and its exports are called by the names of their
//! fields: what it does not know it is not told, and what it does not say it does not want.
//! That costs some microseconds a call and no code for each version. Components of the current
//! version are called through generated types instead.

mod arguments;
mod results;

use semver::Version;
use serde_json::Value;
use wasmtime::{
    Store, StoreContextMut,
    component::{
        Component, ComponentExportIndex, ComponentType, Func, Instance, Linker, Lower, Type, Val,
    },
};

use super::{
    call::Input,
    host::{
        State,
        wit::voice_room::plugin::{
            events::{self, Host as _},
            key_value, log, metrics, settings, timers,
        },
    },
    instance::Raw,
    load::{PACKAGE, WIT_VERSION},
    trace::{HasTraced, traced},
};
use crate::model::Hook;

/// Older versions that are spoken, the newest first. Patch versions of them speak to each other.
const OLDER: [&str; 2] = [V0_2, V0_1];
const V0_2: &str = "0.2.0";
const V0_1: &str = "0.1.0";

/// How a version of the contract stands to the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its own, or one that differs in the last number only.
    Current,
    /// One of those before it.
    Older,
    /// Later, or of another line, or none at all.
    Foreign,
}

/// Whether and how components of a version can be spoken to.
pub(super) fn standing(version: &str) -> Standing {
    let same_line = |known: &str| match (Version::parse(version), Version::parse(known)) {
        (Ok(version), Ok(known)) => {
            version.pre.is_empty() && (version.major, version.minor) == (known.major, known.minor)
        }
        _ => false,
    };
    if same_line(WIT_VERSION) {
        Standing::Current
    } else if OLDER.into_iter().any(same_line) {
        Standing::Older
    } else {
        Standing::Foreign
    }
}

/// The versions that the server speaks, for people.
pub(super) fn spoken() -> String {
    let older = OLDER.map(|version| version.rsplit_once('.').map_or(version, |(line, _)| line));
    format!(
        "voice-room:plugin@{WIT_VERSION}, and with older plugins {}",
        older.join(", ")
    )
}

/// What of an older component does not fit the contract by its names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not keep to the version of the contract that it names: {0}")]
pub(super) struct Unfit(String);

impl Unfit {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Links the imports of older versions. Where a type has grown since, the function is linked
/// with the type as it was.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for version in OLDER {
        let name = |interface: &str| format!("{PACKAGE}{interface}@{version}");
        let interface = &mut linker.instance(&name("log"))?;
        log::add_to_linker_instance::<State, HasTraced>(interface, traced)?;
        let interface = &mut linker.instance(&name("settings"))?;
        settings::add_to_linker_instance::<State, HasTraced>(interface, traced)?;
        let interface = &mut linker.instance(&name("key-value"))?;
        key_value::add_to_linker_instance::<State, HasTraced>(interface, traced)?;
        let interface = &mut linker.instance(&name("metrics"))?;
        metrics::add_to_linker_instance::<State, HasTraced>(interface, traced)?;
    }
    let interface = &mut linker.instance(&format!("{PACKAGE}timers@{V0_2}"))?;
    timers::add_to_linker_instance::<State, HasTraced>(interface, traced)?;
    let interface = &mut linker.instance(&format!("{PACKAGE}events@{V0_2}"))?;
    events::add_to_linker_instance::<State, HasTraced>(interface, traced)?;
    linker
        .instance(&format!("{PACKAGE}events@{V0_1}"))?
        .func_wrap(
            "publish",
            |mut store: StoreContextMut<'_, State>, (topic, payload): (String, String)| {
                let published = traced(store.data_mut()).publish(topic, payload);
                Ok((published.map_err(narrowed),))
            },
        )?;
    Ok(())
}

/// The error of `events.publish` as it was at 0.1.
fn narrowed(error: events::Error) -> derived::PublishError {
    match error {
        // The nearest: the topic is none that this plugin can publish to. The log has more.
        events::Error::InvalidTopic | events::Error::NotGranted => {
            derived::PublishError::InvalidTopic
        }
        events::Error::InvalidPayload(why) => derived::PublishError::InvalidPayload(why),
        events::Error::QuotaExceeded(limit) => derived::PublishError::QuotaExceeded(limit),
    }
}

mod derived {
    #![allow(
        unsafe_code,
        reason = "derived: the canonical ABI is offsets into memory"
    )]

    use super::{ComponentType, Lower};

    #[derive(ComponentType, Lower)]
    #[component(variant)]
    pub(super) enum PublishError {
        #[component(name = "invalid-topic")]
        InvalidTopic,
        #[component(name = "invalid-payload")]
        InvalidPayload(String),
        #[component(name = "quota-exceeded")]
        QuotaExceeded(u32),
    }
}

/// Where the exports of older versions are in a component.
pub(super) struct Found {
    init: Option<ComponentExportIndex>,
    hooks: Vec<(Hook, ComponentExportIndex)>,
}

impl Found {
    pub(super) fn new(component: &Component) -> wasmtime::Result<Self> {
        let mut hooks = Vec::new();
        for hook in Hook::ALL.iter().filter(|hook| **hook != Hook::Init) {
            if let Some(found) = find(component, hook.name(), hook.name())? {
                hooks.push((*hook, found));
            }
        }
        Ok(Self {
            init: find(component, "lifecycle", "init")?,
            hooks,
        })
    }

    pub(super) fn has(&self, hook: Hook) -> bool {
        self.hooks.iter().any(|(found, _)| *found == hook)
    }

    /// Calls `init`. The commands that it registers, or its sentence.
    pub(super) async fn init(
        &self,
        store: &mut Store<State>,
        of: &Instance,
    ) -> wasmtime::Result<Result<Vec<String>, String>> {
        let missing = || Unfit::new("it does not export `init`");
        let init = self.init.as_ref().ok_or_else(missing)?;
        let init = of.get_func(&mut *store, init).ok_or_else(missing)?;
        let mut result = [Val::Bool(false)];
        init.call_async(&mut *store, &[], &mut result).await?;
        let [result] = result;
        Ok(results::registered(result)?)
    }

    pub(super) fn load(&self, store: &mut Store<State>, of: &Instance) -> wasmtime::Result<Hooks> {
        let mut hooks = Vec::new();
        for (hook, index) in &self.hooks {
            let missing = || Unfit::new(format!("it does not export `{hook}`"));
            let func = of.get_func(&mut *store, index).ok_or_else(missing)?;
            hooks.resize_with(hooks.len().max(*hook as usize + 1), || None);
            if let Some(place) = hooks.get_mut(*hook as usize) {
                *place = Some(Function::new(*hook, func, store)?);
            }
        }
        Ok(Hooks(hooks))
    }
}

/// The newest of the older versions of a function, unless the component has the current one.
fn find(
    component: &Component,
    interface: &str,
    function: &str,
) -> wasmtime::Result<Option<ComponentExportIndex>> {
    let exported = |version: &str| {
        let name = format!("{PACKAGE}{interface}@{version}");
        component.get_export_index(None, &name)
    };
    if exported(WIT_VERSION).is_some() {
        return Ok(None);
    }
    let Some(instance) = OLDER.into_iter().find_map(exported) else {
        return Ok(None);
    };
    match component.get_export_index(Some(&instance), function) {
        Some(found) => Ok(Some(found)),
        None => Err(Unfit::new(format!("`{interface}` has no function `{function}`")).into()),
    }
}

/// The hooks of an older version that one instance has, each at the place of its number.
pub(super) struct Hooks(Vec<Option<Function>>);

impl Hooks {
    pub(super) fn of(&self, hook: Hook) -> Option<&Function> {
        self.0.get(hook as usize)?.as_ref()
    }
}

/// A hook as its component declares it.
pub(super) struct Function {
    hook: Hook,
    func: Func,
    argument: Type,
    results: usize,
}

impl Function {
    fn new(hook: Hook, func: Func, store: &Store<State>) -> Result<Self, Unfit> {
        let ty = func.ty(store);
        let mut parameters = ty.params();
        let (Some((_, argument @ Type::Record(_))), None) = (parameters.next(), parameters.next())
        else {
            return Err(Unfit::new(format!("`{hook}` does not take one record")));
        };
        let results = ty.results().len();
        Ok(Self {
            hook,
            argument,
            func,
            results,
        })
    }

    /// Tells the guest what its record has room for of the call.
    pub(super) async fn call(
        &self,
        store: &mut Store<State>,
        input: &Input,
    ) -> wasmtime::Result<Raw> {
        let mut call = serde_json::to_value(input)
            .map_err(|error| Unfit::new(format!("`{}`: {error}", self.hook)))?;
        let call = call.get_mut("input").map_or(Value::Null, Value::take);
        let argument = arguments::value(&self.argument, &call)?;
        let mut result = vec![Val::Bool(false); self.results];
        self.func
            .call_async(&mut *store, &[argument], &mut result)
            .await?;
        Ok(results::raw(self.hook, result.pop())?)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0.3.0", Standing::Current)]
    #[case("0.3.9", Standing::Current)]
    #[case("0.2.0", Standing::Older)]
    #[case("0.2.3", Standing::Older)]
    #[case("0.1.0", Standing::Older)]
    #[case("0.1.7", Standing::Older)]
    #[case("0.4.0", Standing::Foreign)]
    #[case("0.0.1", Standing::Foreign)]
    #[case("1.1.0", Standing::Foreign)]
    #[case("0.3.0-draft", Standing::Foreign)]
    #[case("0.1", Standing::Foreign)]
    #[case("nonsense", Standing::Foreign)]
    #[case("", Standing::Foreign)]
    fn a_minor_version_is_spoken_with_itself_and_those_before(
        #[case] version: &str,
        #[case] expected: Standing,
    ) {
        assert_eq!(standing(version), expected);
    }

    #[test]
    fn what_is_spoken_names_all_versions() {
        assert_eq!(
            spoken(),
            "voice-room:plugin@0.3.0, and with older plugins 0.2, 0.1"
        );
    }
}
