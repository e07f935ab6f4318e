//! Which files are pages of the site.

use std::fs;

use crate::Stop;
use crate::process::root;

/// The folder of the manual.
const MANUAL: &str = "crates/tenure/src/manual/";

/// One page.
#[derive(Debug)]
pub(super) struct Page {
    /// Its file, from the root of the repository.
    pub(super) source: String,
    /// Its file in the site.
    pub(super) html: String,
    pub(super) title: String,
    /// The part of the navigation that names it.
    pub(super) part: &'static str,
    pub(super) text: String,
}

impl Page {
    fn read(source: String, html: String, title: &str, part: &'static str) -> Result<Page, Stop> {
        let text =
            fs::read_to_string(root().join(&source)).map_err(|e| Stop::Broken(format!("{source}: {e}")))?;
        Ok(Page { source, html, title: title.to_owned(), part, text })
    }
}

/// All pages in the order of the navigation. The manual's order is that of its `mod.rs`.
pub(super) fn pages() -> Result<Vec<Page>, Stop> {
    let mut all = vec![Page::read("README.md".into(), "index.html".into(), "Tenure", "Start")?];
    let modules = fs::read_to_string(root().join(MANUAL).join("mod.rs"))?;
    let named = modules
        .split("include_str!(\"")
        .skip(1)
        .filter_map(|rest| rest.split_once(".md\"").map(|(name, _)| name));
    for name in named.filter(|name| *name != "links") {
        let (part, title) = match name.rsplit_once('/') {
            Some((_, recipe)) => ("Recipes", recipe.replace('_', " ")),
            None => ("Manual", name.to_owned()),
        };
        let title = capital(&title);
        all.push(Page::read(format!("{MANUAL}{name}.md"), format!("manual/{name}.html"), &title, part)?);
    }
    let wire = fs::read_dir(root().join("docs/wire"))?;
    let mut formats: Vec<String> = wire
        .filter_map(|entry| {
            entry.ok()?.file_name().into_string().ok()?.strip_suffix(".md").map(str::to_owned)
        })
        .collect();
    formats.sort();
    for name in formats {
        let title = capital(&name);
        all.push(Page::read(format!("docs/wire/{name}.md"), format!("wire/{name}.html"), &title, "Formats")?);
    }
    for name in ["CHANGELOG", "SECURITY", "CONTRIBUTING", "ARCHITECTURE"] {
        let title = capital(&name.to_lowercase());
        all.push(Page::read(
            format!("{name}.md"),
            format!("{}.html", name.to_lowercase()),
            &title,
            "Project",
        )?);
    }
    Ok(all)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
