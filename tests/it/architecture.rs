//! Holds the source against the map in `ARCHITECTURE.md`: which module may use
//! which, and which crates are named where.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module and the modules it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &["model"]),
    ("cli", &["config"]),
    ("tool", &["cli", "plugin", "store", "config", "model"]),
    ("telemetry", &["config", "model"]),
    ("store", &["config", "telemetry", "model"]),
    ("sinks", &["store", "config", "telemetry", "model"]),
    ("plugin", &["store", "config", "telemetry", "model"]),
    ("media", &["config", "telemetry", "model"]),
    ("room", &["plugin", "media", "config", "telemetry", "model"]),
    (
        "signal",
        &[
            "room",
            "plugin",
            "media",
            "sinks",
            "store",
            "config",
            "telemetry",
            "model",
        ],
    ),
    ("reload", &["plugin", "config", "model"]),
    (
        "server",
        &[
            "signal",
            "reload",
            "room",
            "plugin",
            "media",
            "sinks",
            "store",
            "config",
            "telemetry",
            "model",
        ],
    ),
];

/// A word of source and the only module that may contain it.
const ONLY_IN: &[(&str, &str)] = &[
    ("mediasoup::", "media"),
    ("wasmtime", "plugin"),
    ("socketioxide::", "signal"),
    ("utoipa", "signal"),
    ("redb::", "store"),
    ("notify::", "plugin"),
    ("std::env", "config"),
    ("std::process", "tool"),
    ("reqwest::", "sinks"),
];

/// The composition root may hold a handle that it passes on; the tools ask running servers.
const EXCEPT: &[(&str, &str)] = &[("socketioxide::", "server"), ("reqwest::", "tool")];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The source without comments and doc comments.
fn code(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Each source file with its top-level module and code; `main` and `lib` aside.
fn modules() -> Vec<(String, String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files
        .into_iter()
        .filter_map(|path| {
            let first = path
                .strip_prefix(&root)
                .unwrap()
                .components()
                .next()
                .unwrap();
            let module = first
                .as_os_str()
                .to_str()
                .unwrap()
                .trim_end_matches(".rs")
                .to_owned();
            let text = code(&fs::read_to_string(&path).unwrap());
            (module != "lib" && module != "main").then_some((module, text, path))
        })
        .collect()
}

/// Modules of this crate that a file names, in paths and in `use crate::{…}`.
fn named(code: &str) -> Vec<&'static str> {
    let mut tree = String::new();
    for part in code.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let mut depth = 1;
            for one in list.chars() {
                match one {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                // Only the first level names modules of the crate.
                if depth == 1 {
                    tree.push(one);
                }
            }
            tree.push(',');
        } else {
            tree.push_str(
                part.split(|one: char| !one.is_alphanumeric() && one != '_')
                    .next()
                    .unwrap(),
            );
            tree.push(',');
        }
    }
    let first = |item: &str| {
        item.trim()
            .split("::")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let items: Vec<String> = tree.split(',').map(first).collect();
    MAY_USE
        .iter()
        .map(|(module, _)| *module)
        .filter(|one| items.iter().any(|item| item == one))
        .collect()
}

#[test]
fn dependencies_between_modules_run_one_way() {
    for (module, code, path) in modules() {
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("`{module}` is not on the map: add it to the table"));
        for used in named(&code) {
            assert!(
                used == module || allowed.contains(&used),
                "{}: `{module}` must not use `{used}`",
                path.display()
            );
        }
    }
}

#[test]
fn each_foreign_crate_is_named_in_its_own_module_only() {
    for (module, code, path) in modules() {
        for (word, home) in ONLY_IN {
            if module == *home || EXCEPT.contains(&(*word, module.as_str())) {
                continue;
            }
            assert!(
                !code.contains(word),
                "{}: only `{home}` names `{word}`",
                path.display()
            );
        }
    }
}

#[test]
fn the_check_sees_what_it_forbids() {
    assert_eq!(
        named("use crate::{\n    media::{self, Media},\n    model::RoomId,\n};"),
        ["model", "media"]
    );
    assert_eq!(named("fn f() { crate::room::Rooms::new(); }"), ["room"]);
    assert!(modules().len() > 20);
}
