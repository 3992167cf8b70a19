//! `plugin check`: what a component can touch, before anyone installs it.

use super::{Report, json};
use crate::{
    cli::CheckOptions,
    plugin::{Inspection, LoadError, inspect},
};

/// Looks at a component.
///
/// # Errors
///
/// If there is no component to look at.
pub(super) fn component(options: &CheckOptions) -> Result<Report, LoadError> {
    let manifest = match &options.manifest {
        Some(manifest) => manifest.clone(),
        None => options.file.with_extension("toml"),
    };
    let looked = inspect(&options.file, &manifest);
    let mut inspection = looked.map_err(|problem| LoadError {
        problems: vec![problem],
    })?;
    inspection.check_grants(&options.grants);
    Ok(Report {
        fine: inspection.problems.is_empty(),
        text: if options.json {
            json(&inspection)
        } else {
            for_people(&inspection)
        },
    })
}

fn for_people(of: &Inspection) -> String {
    let mut text = title(of);
    let mut row = |name: &str, value: &str| text += &format!("  {name:<10}{value}\n");
    row("file", &format!("{}, {} bytes", of.file.display(), of.size));
    row("content", &of.component);
    row("contract", of.contract.as_deref().unwrap_or("none"));
    row("manifest", &of.manifest_file.display().to_string());
    let hooks: Vec<_> = of.hooks.iter().map(|hook| hook.name()).collect();
    row("hooks", &listed(&hooks));
    if let Some(manifest) = &of.manifest {
        let commands: Vec<_> = manifest.commands.iter().map(String::as_str).collect();
        row("commands", &listed(&commands));
        let topics: Vec<_> = manifest.topics.iter().map(String::as_str).collect();
        row("topics", &listed(&topics));
        let asked: Vec<_> = manifest.capabilities.iter().map(|it| it.name()).collect();
        row("asks for", &listed(&asked));
    }
    let imports: Vec<_> = of
        .imports
        .iter()
        .map(|import| format!("{} ({})", import.name, import.functions.join(", ")))
        .collect();
    for (place, import) in imports.iter().enumerate() {
        row(if place == 0 { "imports" } else { "" }, import);
    }
    if !of.wasi.is_empty() {
        let what = format!(
            "{} interfaces of WASI, with nothing behind them but random numbers",
            of.wasi.len()
        );
        row(if imports.is_empty() { "imports" } else { "" }, &what);
    }
    text += &section("It can", &of.can);
    text += &section("It cannot", &of.cannot);
    if let Some(grants) = &of.grants {
        text += &format!("\nThis grants all that it asks for, in its [[plugins]]:\n  {grants}\n");
    }
    text += &section("A server would not load it: it", &of.problems);
    if let Some(manifest) = &of.suggested_manifest {
        text += &format!(
            "\nThis could be its manifest, {}:\n\n{manifest}",
            of.manifest_file.display()
        );
    }
    text
}

fn title(of: &Inspection) -> String {
    let Some(manifest) = &of.manifest else {
        let name = of.file.file_name().unwrap_or_default();
        return format!("{}\n", name.to_string_lossy());
    };
    let title = format!("{} {}", manifest.name, manifest.version);
    match &manifest.description {
        Some(description) => format!("{title}: {description}\n"),
        None => title + "\n",
    }
}

fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("  - {line}\n")).collect();
    format!("\n{title}\n{lines}")
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
