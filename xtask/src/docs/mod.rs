//! `cargo xtask docs`: the manual as a web site, from the same files that rustdoc and the repository show.
//!
//! - `pages`: which files there are, and where they go. - `render`: Markdown to HTML. - `check`: every link leads somewhere.

mod check;
mod pages;
mod render;

use std::fs;
use std::path::Path;

use crate::Stop;
use crate::args::Args;
use crate::process::{cargo, root, succeeds};
use pages::pages;

/// Where the links of the manual to the library's items lead when the site has no copy of them.
const API: &str = "https://docs.rs/tenure/latest/";
/// The repository, for links to files that are no pages.
const REPOSITORY: &str = "https://github.com/tenure-rs/tenure/blob/main/";

/// Writes the site to `target/site`; `false` when a link leads nowhere.
pub(crate) fn run(args: &[String]) -> Result<bool, Stop> {
    let args = Args::parse(args, &["--no-api"], &[])?.no_words()?;
    let with_api = !args.has("--no-api");
    let site = root().join("target/site");
    if site.exists() {
        fs::remove_dir_all(&site)?;
    }
    if with_api {
        let doc = ["doc", "--no-deps", "--package", "tenure", "--all-features"];
        if !succeeds(cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))? {
            return Ok(false);
        }
        copy(&root().join("target/doc"), &site.join("api"))?;
    }
    let pages = pages()?;
    for page in &pages {
        let file = site.join(&page.html);
        fs::create_dir_all(file.parent().unwrap_or(&site))?;
        fs::write(&file, render::page(page, &pages, with_api))?;
    }
    let faults = check::links(&site, &pages)?;
    faults.iter().for_each(|fault| println!("{fault}"));
    println!("{} pages in {}", pages.len(), site.display());
    Ok(faults.is_empty())
}

/// The way from one file of the site to another.
fn way(from: &str, to: &str) -> String {
    format!("{}{to}", "../".repeat(from.matches('/').count()))
}

fn copy(from: &Path, to: &Path) -> Result<(), Stop> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
