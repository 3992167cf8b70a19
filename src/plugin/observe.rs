//! Watching a plugin's calls: what goes in and what comes out is handed to the recorder and to
//! the shadow.
//!
//! Nothing here waits. A plugin that is not watched pays for it with one comparison a call.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::Value;

use super::{
    call::Input,
    engine::Engine,
    host::Conditions,
    instance::{Failure, Output, Template},
    lane::Common,
    offline::published,
    record::{CallLine, ImportCall, InstanceLine, Outcome, micros},
    recorder::Recorder,
    shadow::{Shadow, ShadowStatus},
};
use crate::{
    config::{PluginConfig, RecordingConfig},
    model::UnixMs,
};

/// What becomes of the calls of one version of a plugin.
pub(super) struct Observer {
    recorder: Option<Arc<Recorder>>,
    shadow: Option<Shadow>,
    plugin: Arc<str>,
    component: String,
    contract: String,
    settings: Value,
}

/// What a call, or `init`, has asked for, and whether there was more.
pub(super) type Asked = (Vec<ImportCall>, bool);

/// Where recorded calls go. Nothing is opened before a plugin is to be recorded.
pub(super) struct Recording {
    dir: PathBuf,
    config: RecordingConfig,
    recorder: Mutex<Option<Arc<Recorder>>>,
}

impl Recording {
    pub(super) fn new(dir: PathBuf, config: RecordingConfig) -> Self {
        Self {
            dir,
            config,
            recorder: Mutex::default(),
        }
    }

    fn recorder(&self) -> Result<Arc<Recorder>, String> {
        let mut recorder = self.recorder.lock();
        if let Some(recorder) = &*recorder {
            return Ok(Arc::clone(recorder));
        }
        let opened = Recorder::open(&self.dir, self.config);
        let opened = Arc::new(
            opened
                .map_err(|error| format!("cannot be recorded: {}: {error}", self.dir.display()))?,
        );
        *recorder = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Waits until all that was recorded is in the files, for a bounded time.
    pub(super) async fn flush(&self, limit: Duration) {
        let recorder = self.recorder.lock().clone();
        if let Some(recorder) = recorder {
            recorder.flush(limit).await;
        }
    }
}

impl Common {
    /// Who is to watch a version of the plugin, if somebody is.
    pub(super) async fn observer(
        &self,
        engine: &Arc<Engine>,
        config: &PluginConfig,
        template: &Template,
    ) -> Result<Option<Arc<Observer>>, String> {
        if !config.record && config.shadow.is_none() {
            return Ok(None);
        }
        let recorder = config.record.then(|| self.stage.recording.recorder());
        let shadow = match &config.shadow {
            Some(path) => {
                let contended = Arc::clone(&self.contended);
                Some(Shadow::load(engine, config, path, &self.space, contended).await?)
            }
            None => None,
        };
        Ok(Some(Arc::new(Observer {
            recorder: recorder.transpose()?,
            shadow,
            plugin: Arc::clone(&self.name),
            component: template.component.clone(),
            contract: template.contract.clone(),
            settings: config.settings.clone(),
        })))
    }
}

impl Observer {
    pub(super) fn has_shadow(&self) -> bool {
        self.shadow.is_some()
    }

    /// How the shadow does, if there is one.
    pub(super) fn shadow(&self) -> Option<ShadowStatus> {
        self.shadow.as_ref().map(Shadow::status)
    }

    /// The version takes over, or comes back: see [`Template::take_over`].
    pub(super) fn take_over(&self, swap: impl FnOnce() -> usize) {
        match &self.shadow {
            Some(shadow) => shadow.take_over(swap),
            None => {
                swap();
            }
        }
    }

    /// A lane that could not go over to this version at once has done so.
    pub(super) fn gone_over(&self) {
        if let Some(shadow) = &self.shadow {
            shadow.gone_over();
        }
    }

    /// What an instance is to be made under, so that it can be repeated.
    pub(super) fn conditions(&self, conditions: Conditions) -> Conditions {
        if self.recorder.is_none() {
            return conditions;
        }
        Conditions {
            traced: true,
            random: Some(getrandom::u64().unwrap_or_default()),
            at: Some(UnixMs::now()),
            ..conditions
        }
    }

    /// Tells of an instance that was made, or could not be.
    pub(super) fn began(
        self: &Arc<Self>,
        conditions: Conditions,
        (imports, truncated): Asked,
        failure: Option<&Failure>,
    ) -> Watched {
        let line = move || InstanceLine {
            instance: 0,
            run: UnixMs(0),
            at: conditions.at.unwrap_or_else(UnixMs::now),
            plugin: self.plugin.to_string(),
            component: self.component.clone(),
            contract: self.contract.clone(),
            settings: self.settings.clone(),
            random: conditions.random.unwrap_or_default(),
            imports,
            truncated,
            outcome: failure.map_or(Outcome::Noted, Outcome::from),
            continued: false,
        };
        let recorder = self.recorder.as_ref();
        let instance = recorder.map_or(0, |recorder| recorder.began(line()));
        Watched {
            observer: Arc::clone(self),
            instance,
        }
    }
}

/// An instance whose calls are watched.
pub(super) struct Watched {
    observer: Arc<Observer>,
    /// Its number in the recording.
    instance: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(recorder) = &self.observer.recorder {
            recorder.ended(self.instance);
        }
    }
}

impl Watched {
    /// A call begins.
    pub(super) fn begin(&self, input: &Arc<Input>) -> Observation {
        Observation {
            observer: Arc::clone(&self.observer),
            began: Instant::now(),
            // It stays this if the wall clock ends the call.
            line: Some(Box::new(CallLine {
                seq: 0,
                instance: self.instance,
                at: UnixMs(0),
                input: Arc::clone(input),
                imports: Vec::new(),
                truncated: false,
                outcome: Outcome::from(&Failure::TimedOut),
                amendment: None,
                actions: Vec::new(),
                published: Vec::new(),
                undone: false,
                micros: 0,
            })),
        }
    }
}

/// A call that is watched. It is handed on when this is dropped.
pub(super) struct Observation {
    observer: Arc<Observer>,
    began: Instant,
    line: Option<Box<CallLine>>,
}

impl Observation {
    /// The guest has returned, or failed. Where it has returned, the call counts as undone
    /// until it [has taken effect](Self::took_effect).
    pub(super) fn end(
        &mut self,
        result: Result<&Output, &Failure>,
        (imports, truncated): Asked,
        took: Duration,
    ) {
        let Some(line) = &mut self.line else {
            return;
        };
        line.micros = micros(took);
        (line.imports, line.truncated) = (imports, truncated);
        match result {
            Ok(output) => {
                (line.outcome, line.amendment) = Outcome::of(&output.answer);
                line.actions.clone_from(&output.actions);
                line.published = published(&output.staged);
                line.undone = true;
            }
            Err(failure) => line.outcome = failure.into(),
        }
    }

    /// What the call wanted has been done.
    pub(super) fn took_effect(mut self) {
        if let Some(line) = &mut self.line {
            line.undone = false;
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.at = UnixMs::now();
            if line.micros == 0 {
                line.micros = micros(self.began.elapsed());
            }
            // Of what is as if it had not been, the shadow need not know.
            if let Some(shadow) = self.observer.shadow.as_ref().filter(|_| !line.undone) {
                shadow.give(&line);
            }
            if let Some(recorder) = &self.observer.recorder {
                recorder.called(line);
            }
        }
    }
}
