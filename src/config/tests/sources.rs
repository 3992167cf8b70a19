//! A file, variables and flags of one test.

use crate::config::*;

pub(in crate::config) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A file, variables and flags.
#[derive(Default)]
pub(in crate::config) struct Case<'a> {
    pub(in crate::config) dev: bool,
    pub(in crate::config) file: &'a str,
    pub(in crate::config) environment: &'a [(&'a str, &'a str)],
    pub(in crate::config) listen: Option<&'a str>,
    pub(in crate::config) data_dir: Option<&'a str>,
}

impl Case<'_> {
    pub(in crate::config) fn resolve(&self) -> Result<Loaded, Mistakes> {
        let environment = self.environment.iter();
        resolve(&Sources {
            flags: Flags {
                dev: self.dev,
                file: Some("voice-room.toml".into()),
                listen: self.listen.map(str::to_owned),
                data_dir: self.data_dir.map(str::to_owned),
            },
            file_text: Some(self.file.to_owned()),
            environment: environment.map(|(n, v)| (n.into(), v.into())).collect(),
            cores: 6,
            plugins_dir: "/opt/plugins".into(),
        })
    }
}

pub(in crate::config) fn loaded(case: &Case<'_>) -> Config {
    match case.resolve() {
        Ok(loaded) => loaded.config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

pub(in crate::config) fn mistakes(case: &Case<'_>) -> Vec<String> {
    match case.resolve() {
        Ok(loaded) => panic!("accepted: {:?}", loaded.config),
        Err(mistakes) => mistakes
            .as_slice()
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}
