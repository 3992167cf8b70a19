//! `plugin new`: a project that builds and passes its tests as it is.

mod sdk;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rust_embed::RustEmbed;

use super::Report;
use crate::{
    cli::{Language, NewOptions},
    plugin::is_plugin_event,
};

/// The files of new projects. `{{name}}` and the like are filled in when they are written.
#[derive(RustEmbed)]
#[folder = "src/tool/templates"]
struct Templates;

/// Names that a Rust package cannot have, or not beside what it depends on.
const NOT_FOR_RUST: [&str; 42] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "final",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "serde",
    "serde-json",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "type",
    "use",
    "while",
];

/// Why no project was written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The folder is not empty.
    #[error("{} is there already and is not empty: choose another --path", .0.display())]
    Occupied(PathBuf),
    /// Commands are named after the plugin, and these would be the server's.
    #[error(
        "the server itself speaks of `{0}`, so no plugin's command can begin with it: choose another name"
    )]
    Reserved(String),
    /// Not a package's name.
    #[error("Rust keeps `{0}` for itself: choose another name")]
    NotForRust(String),
    /// `--sdk` does not name an SDK.
    #[error("--sdk {}: there is no {wanted} in it", folder.display())]
    NoSdk {
        /// The folder.
        folder: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A file or folder cannot be written.
    #[error("{} cannot be written: {error}", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The server was built wrongly.
    #[error("this build of the server has no usable template: {0}")]
    Unusable(String),
}

/// Writes a project.
///
/// # Errors
///
/// If the name or the folder cannot be used, or a file cannot be written.
pub(super) fn project(options: &NewOptions) -> Result<Report, NewError> {
    let name = options.name.as_str();
    if !is_plugin_event(&format!("{name}:give-word")) {
        return Err(NewError::Reserved(name.to_owned()));
    }
    if options.lang == Language::Rust && NOT_FOR_RUST.contains(&name) {
        return Err(NewError::NotForRust(name.to_owned()));
    }
    let folder = options.path.clone().unwrap_or_else(|| PathBuf::from(name));
    check_free(&folder)?;
    let kit = sdk::Kit::of(options.lang);
    let sdk = match &options.sdk {
        Some(folder) => kit.elsewhere(folder)?,
        None => {
            kit.write(&folder)?;
            kit.place().to_owned()
        }
    };
    let replaced = [
        ("{{name}}", name.to_owned()),
        ("{{sdk}}", sdk),
        ("{{component}}", component(options.lang, name)),
    ];
    let mut written = Vec::new();
    for (path, text) in template(options.lang)? {
        let text = replaced
            .iter()
            .fold(text, |text, (mark, value)| text.replace(mark, value));
        write(&folder.join(&path), text.as_bytes())?;
        written.push(path);
    }
    Ok(Report::fine(told(name, &folder, &written)))
}

fn check_free(folder: &Path) -> Result<(), NewError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(NewError::Occupied(folder.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unwritable(folder)(error)),
    }
}

/// The paths and texts of a language's files.
fn template(language: Language) -> Result<Vec<(String, String)>, NewError> {
    let prefix = match language {
        Language::Rust => "rust/",
        Language::Js => "js/",
    };
    let mut files = Vec::new();
    for path in Templates::iter() {
        let (Some(place), Some(file)) = (path.strip_prefix(prefix), Templates::get(&path)) else {
            continue;
        };
        let text = String::from_utf8(file.data.into_owned())
            .map_err(|_| NewError::Unusable(format!("{path} is no text")))?;
        // Under its own name, it would rule over the template's folder.
        let place = place.replace("gitignore", ".gitignore");
        files.push((place, text));
    }
    if files.is_empty() {
        return Err(NewError::Unusable(format!("there is no {prefix}")));
    }
    files.sort();
    Ok(files)
}

/// Where the built component lies in the project, without its extension.
fn component(language: Language, name: &str) -> String {
    match language {
        Language::Rust => format!("target/wasm32-wasip2/release/{}", name.replace('-', "_")),
        Language::Js => format!("dist/{name}"),
    }
}

/// Writes a file and the folders that it needs.
fn write(path: &Path, bytes: &[u8]) -> Result<(), NewError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
    }
    fs::write(path, bytes).map_err(unwritable(path))
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> NewError {
    let path = path.to_owned();
    move |error| NewError::Unwritable { path, error }
}

fn told(name: &str, folder: &Path, written: &[String]) -> String {
    let folder = folder.display();
    let mut text = format!("The plugin {name} is in {folder}:\n");
    for path in written {
        text += &format!("  {path}\n");
    }
    text += &format!("\nBuild it and run its scenarios:\n  voice-room plugin test {folder}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, folder: &Path) -> NewOptions {
        NewOptions {
            name: name.to_owned(),
            lang: Language::Rust,
            path: Some(folder.to_owned()),
            sdk: None,
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("made/here");
        let report = project(&options("quiet-hours", &folder)).unwrap();
        assert!(report.fine);
        for file in [
            "Cargo.toml",
            ".gitignore",
            "src/lib.rs",
            "plugin.toml",
            "README.md",
        ] {
            assert!(report.text.contains(file), "{}", report.text);
            let text = fs::read_to_string(folder.join(file)).unwrap();
            assert!(!text.contains("{{"), "{file}: {text}");
        }
        let wit = fs::read_to_string(folder.join("vendor/voice-room-plugin-sdk/wit/plugin.wit"));
        assert!(wit.unwrap().contains("package voice-room:plugin@"));
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.txt"), "mine").unwrap();
        let error = project(&options("quiet-hours", place.path())).unwrap_err();
        assert!(matches!(error, NewError::Occupied(_)), "{error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_that_would_not_work_are_refused_before_anything_is_written() {
        let place = tempfile::tempdir().unwrap();
        let reserved = project(&options("room", place.path())).unwrap_err();
        assert!(matches!(reserved, NewError::Reserved(_)), "{reserved}");
        let keyword = project(&options("match", place.path())).unwrap_err();
        assert!(matches!(keyword, NewError::NotForRust(_)), "{keyword}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_sdk_is_used_where_it_lies() {
        let place = tempfile::tempdir().unwrap();
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin-sdk");
        let mut options = options("quiet-hours", place.path());
        options.sdk = Some(sdk.clone());
        project(&options).unwrap();
        let manifest = fs::read_to_string(place.path().join("Cargo.toml")).unwrap();
        let named = format!("path = \"{}\"", sdk.canonicalize().unwrap().display());
        assert!(manifest.contains(&named), "{manifest}");
        assert!(!place.path().join("vendor").exists());

        let empty = tempfile::tempdir().unwrap();
        options.sdk = Some(empty.path().to_owned());
        options.path = Some(empty.path().join("project"));
        let error = project(&options).unwrap_err();
        assert!(matches!(error, NewError::NoSdk { .. }), "{error}");
    }
}
