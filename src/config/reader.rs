//! Takes typed values out of the merged sources and notes what is wrong. What
//! nobody has taken in the end is unknown, and a mistake too.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use toml::{Table, Value};

use super::{
    effective::Line,
    kind::Kind,
    mistake::{Mistake, Origin},
};

/// What the names of our environment variables start with.
const PREFIX: &str = "VOICE_ROOM_";

/// Variables with our prefix that tell other programs something: the build of the
/// media worker, the browser tests.
const NOT_SETTINGS: [&str; 3] = [
    "VOICE_ROOM_ADMIN_TOKEN",
    "VOICE_ROOM_BIN",
    "VOICE_ROOM_WORKER_DEPS",
];

/// The longest excerpt of a wrong value that is shown, in characters.
const MAX_SHOWN_CHARS: usize = 80;

/// How alike two names must be for one to be suggested in place of the other:
/// 1 is equal, 0 has nothing in common.
const LIKENESS: f64 = 0.7;

/// What reading has found out.
#[derive(Default)]
pub(super) struct Report {
    pub(super) mistakes: Vec<Mistake>,
    pub(super) lines: Vec<Line>,
    /// Full names of the keys that exist.
    known: BTreeSet<String>,
}

impl Report {
    /// Notes that the keys do not fit together; without effect where one of
    /// them is wrong by itself.
    pub(super) fn conflict(&mut self, keys: &[&str], problem: String) {
        let wrong = |key: &&str| self.mistakes.iter().any(|mistake| mistake.key == **key);
        if !keys.iter().any(wrong) {
            self.mistakes.push(Mistake {
                key: keys.first().map_or("", |key| key).to_owned(),
                value: None,
                origin: Origin::Default,
                problem,
            });
        }
    }

    fn has_section(&self, name: &str) -> bool {
        let start = format!("{name}.");
        self.known.iter().any(|key| key.starts_with(&start))
    }
}

/// What goes before the file.
#[derive(Default)]
pub(super) struct Overrides {
    /// By key.
    flags: BTreeMap<&'static str, (&'static str, String)>,
    /// By the variable's name; only ours.
    environment: BTreeMap<String, String>,
}

impl Overrides {
    /// Picks out the variables that are meant for us.
    pub(super) fn from_environment(
        variables: &[(OsString, OsString)],
        report: &mut Report,
    ) -> Self {
        let mut environment = BTreeMap::new();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if !name.starts_with(PREFIX) || NOT_SETTINGS.contains(&&*name) {
                continue;
            }
            match value.to_str() {
                Some(value) if is_service_link(&name, value) => {}
                Some(value) => {
                    environment.insert(name.into_owned(), value.to_owned());
                }
                None => report.mistakes.push(Mistake {
                    key: name.into_owned(),
                    value: None,
                    origin: Origin::Default,
                    problem: "must be UTF-8".to_owned(),
                }),
            }
        }
        Self {
            environment,
            flags: BTreeMap::new(),
        }
    }

    /// Adds what a command-line flag says of a key.
    pub(super) fn flag(&mut self, key: &'static str, name: &'static str, text: Option<&String>) {
        if let Some(text) = text {
            self.flags.insert(key, (name, text.clone()));
        }
    }

    fn take(&mut self, key: &str) -> Option<(String, Origin)> {
        let variable = variable(key);
        let environment = self.environment.remove(&variable);
        match self.flags.remove(key) {
            Some((name, text)) => Some((text, Origin::Flag(name))),
            None => Some((environment?, Origin::Environment(variable))),
        }
    }
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Kubernetes gives every container such variables for each service of its
/// namespace, and one of those may well be called `voice-room`.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = || {
        ["tcp://", "udp://", "sctp://"]
            .iter()
            .any(|s| value.starts_with(s))
    };
    let names_port = || {
        name.split_once("_PORT_").is_some_and(|(_, rest)| {
            rest.split_once('_')
                .is_some_and(|(port, _)| port.parse::<u16>().is_ok())
        })
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_address())
        || names_port()
}

/// A table of the configuration: the whole, or one of an array of tables.
pub(super) struct Section<'r> {
    /// Empty for the whole.
    name: String,
    table: Table,
    /// Of what the table says.
    origin: Origin,
    overrides: Overrides,
    pub(super) report: &'r mut Report,
}

impl<'r> Section<'r> {
    /// The whole configuration.
    pub(super) fn root(
        table: Table,
        origin: Origin,
        overrides: Overrides,
        report: &'r mut Report,
    ) -> Self {
        Self {
            name: String::new(),
            table,
            origin,
            overrides,
            report,
        }
    }

    /// A key that has a default.
    pub(super) fn value<T: 'static>(&mut self, key: &str, kind: &Kind<T>, default: T) -> T {
        let (value, origin) = self.find(key, kind).unwrap_or((default, Origin::Default));
        self.note(key, Some(kind.show(&value)), origin);
        value
    }

    /// A key that may be absent.
    pub(super) fn optional<T: 'static>(&mut self, key: &str, kind: &Kind<T>) -> Option<T> {
        let (value, origin) = self.find(key, kind).unzip();
        let shown = value.as_ref().map(|value| kind.show(value));
        self.note(key, shown, origin.unwrap_or(Origin::Default));
        value
    }

    /// A key that must be there; `None` is a mistake, and noted.
    pub(super) fn required<T: 'static>(&mut self, key: &str, kind: &Kind<T>) -> Option<T> {
        let before = self.report.mistakes.len();
        let value = self.optional(key, kind);
        if value.is_none() && self.report.mistakes.len() == before {
            self.mistake(
                key,
                None,
                Origin::Default,
                format!("must be set to {}", kind.allowed),
            );
        }
        value
    }

    /// A table with keys of somebody else's, who reads JSON. `preset` is what it
    /// says where the configuration does not.
    pub(super) fn object(&mut self, key: &str, preset: Table) -> serde_json::Value {
        self.know(key);
        let (value, origin) = self
            .take(key, |text| {
                text.parse().unwrap_or_else(|_| Value::from(text))
            })
            .unwrap_or((Value::Table(Table::new()), Origin::Default));
        let Value::Table(mut table) = value else {
            self.mistake(key, None, origin, "must be a table".to_owned());
            return serde_json::Value::Object(serde_json::Map::new());
        };
        for (name, value) in preset {
            table.entry(name).or_insert(value);
        }
        let value = Value::Table(table);
        let json = json(&value).unwrap_or_else(|| {
            let problem = "must have no number that is infinite or not a number";
            self.mistake(key, None, origin.clone(), problem.to_owned());
            serde_json::Value::Null
        });
        self.note(key, Some(without_secrets(value)), origin);
        json
    }

    /// An array of tables, each read by `read`. Nothing of a wrong one is shown:
    /// it may hold secrets.
    pub(super) fn tables<T>(
        &mut self,
        key: &str,
        default: Vec<Table>,
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        self.know(key);
        let (tables, origin) = match self.take(key, |text| {
            text.parse().unwrap_or_else(|_| Value::from(text))
        }) {
            None => (default, Origin::Default),
            Some((value, origin)) => match tables_of(value) {
                Some(tables) => (tables, origin),
                None => {
                    self.mistake(key, None, origin, "must be an array of tables".to_owned());
                    return Vec::new();
                }
            },
        };
        if tables.is_empty() {
            self.note(key, Some(Value::Array(Vec::new())), origin.clone());
        }
        let name = self.full(key);
        let section = |(index, table)| {
            let mut section = Section {
                name: format!("{name}[{index}]"),
                table,
                origin: origin.clone(),
                overrides: Overrides::default(),
                report: self.report,
            };
            let value = read(&mut section);
            section.finish();
            value
        };
        tables.into_iter().enumerate().map(section).collect()
    }

    /// Notes a mistake about one of this section's keys.
    pub(super) fn mistake(
        &mut self,
        key: &str,
        value: Option<String>,
        origin: Origin,
        problem: String,
    ) {
        let key = self.full(key);
        self.report.mistakes.push(Mistake {
            key,
            value,
            origin,
            problem,
        });
    }

    /// Has nothing said about what nobody has taken.
    pub(super) fn leave_rest(&mut self) {
        self.table.clear();
    }

    /// Notes everything that nobody has taken.
    pub(super) fn finish(self) {
        let mut unknown = Vec::new();
        self.unknown_keys(&self.table, &self.name, &mut unknown);
        let known = self.report.known.iter();
        // What is within an array of tables has no variable of its own.
        let named = known.filter(|key| !key.contains('['));
        let variables: Vec<_> = named.map(|key| variable(key)).collect();
        for name in self.overrides.environment.into_keys() {
            let problem = match most_alike(&name, &variables) {
                Some(other) => format!("unknown variable; did you mean {other}?"),
                None => "unknown variable".to_owned(),
            };
            unknown.push(Mistake {
                key: name,
                value: None,
                origin: Origin::Default,
                problem,
            });
        }
        self.report.mistakes.append(&mut unknown);
    }

    fn unknown_keys(&self, table: &Table, name: &str, unknown: &mut Vec<Mistake>) {
        for (key, value) in table {
            let full = join(name, key);
            let problem = match value {
                Value::Table(table) if self.report.has_section(&full) => {
                    self.unknown_keys(table, &full, unknown);
                    continue;
                }
                _ if self.report.has_section(&full) => "must be a table".to_owned(),
                _ => match self.suggestion(&full, key) {
                    Some(other) => format!("unknown key; did you mean {other}?"),
                    None => "unknown key".to_owned(),
                },
            };
            unknown.push(Mistake {
                key: full,
                value: None,
                origin: self.origin.clone(),
                problem,
            });
        }
    }

    /// A key or table of this section that was probably meant.
    fn suggestion(&self, full: &str, last: &str) -> Option<String> {
        let own: Vec<_> = self
            .report
            .known
            .iter()
            .filter(|key| key.starts_with(&self.name))
            .cloned()
            .collect();
        let elsewhere = own
            .iter()
            .find(|key| key.rsplit('.').next() == Some(last))
            .cloned();
        let tables = own
            .iter()
            .filter_map(|key| Some(key.rsplit_once('.')?.0.to_owned()));
        let candidates: Vec<_> = own.iter().cloned().chain(tables).collect();
        elsewhere.or_else(|| most_alike(full, &candidates))
    }

    fn find<T: 'static>(&mut self, key: &str, kind: &Kind<T>) -> Option<(T, Origin)> {
        self.know(key);
        let (value, origin) = self.take(key, |text| kind.spelled(text))?;
        let parsed = kind.parse(&value);
        if parsed.is_none() {
            let shown = (!kind.discreet).then(|| excerpt(&value));
            self.mistake(
                key,
                shown,
                origin.clone(),
                format!("must be {}", kind.allowed),
            );
        }
        Some((parsed?, origin))
    }

    fn take(&mut self, key: &str, spelled: impl Fn(&str) -> Value) -> Option<(Value, Origin)> {
        let in_table = remove(&mut self.table, key);
        match self.overrides.take(key) {
            Some((text, origin)) => Some((spelled(&text), origin)),
            None => Some((in_table?, self.origin.clone())),
        }
    }

    fn know(&mut self, key: &str) {
        let key = self.full(key);
        self.report.known.insert(key);
    }

    fn note(&mut self, key: &str, value: Option<Value>, origin: Origin) {
        let (section, key) = match key.rsplit_once('.') {
            Some((section, key)) if self.name.is_empty() => (section, key),
            _ => (self.name.as_str(), key),
        };
        self.report.lines.push(Line {
            section: section.to_owned(),
            key: key.to_owned(),
            value,
            origin,
        });
    }

    fn full(&self, key: &str) -> String {
        join(&self.name, key)
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

fn remove(table: &mut Table, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => table.remove(path),
        Some((head, rest)) => remove(table.get_mut(head)?.as_table_mut()?, rest),
    }
}

fn tables_of(value: Value) -> Option<Vec<Table>> {
    let Value::Array(items) = value else {
        return None;
    };
    let table = |item| match item {
        Value::Table(table) => Some(table),
        _ => None,
    };
    items.into_iter().map(table).collect()
}

fn most_alike(name: &str, candidates: &[String]) -> Option<String> {
    candidates
        .iter()
        .map(|other| (strsim::normalized_damerau_levenshtein(name, other), other))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other.clone())
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// `None` for numbers that JSON does not have. Dates become text.
fn json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::Boolean(value) => (*value).into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Value::Table(table) => {
            let entry = |(key, value): (&String, _)| Some((key.clone(), json(value)?));
            let entries: Option<serde_json::Map<_, _>> = table.iter().map(entry).collect();
            entries?.into()
        }
    })
}

/// What people paste into reports must not give their passwords away: hides
/// values by the names of their keys.
fn without_secrets(value: Value) -> Value {
    const SECRET_NAMES: [&str; 5] = ["secret", "password", "token", "credential", "api_key"];
    match value {
        Value::Table(table) => {
            let entry = |(key, value): (String, Value)| {
                let name = key.to_lowercase().replace('-', "_");
                let value = if SECRET_NAMES.iter().any(|secret| name.contains(secret)) {
                    Value::from("***")
                } else {
                    without_secrets(value)
                };
                (key, value)
            };
            Value::Table(table.into_iter().map(entry).collect())
        }
        Value::Array(items) => items
            .into_iter()
            .map(without_secrets)
            .collect::<Vec<_>>()
            .into(),
        other => other,
    }
}
