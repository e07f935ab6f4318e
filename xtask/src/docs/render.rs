//! Markdown to HTML.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use super::pages::Page;
use super::{API, REPOSITORY, way};

const STYLE: &str = "
:root { color-scheme: light dark; --ink:#1c2833; --soft:#566573; --line:#d5dbdf; --paper:#fff; --sheet:#f4f6f7; --link:#1a5e93 }
@media (prefers-color-scheme: dark) { :root { --ink:#e5e8e8; --soft:#a6b0b5; --line:#3d474d; --paper:#14191e; --sheet:#1d252c; --link:#7fbbe8 } }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); display: grid; grid-template-columns: 15rem minmax(0, 1fr) }
nav { padding: 1.5rem 1rem; border-right: 1px solid var(--line); min-height: 100vh; font-size: 15px }
nav h2 { font-size: .8rem; text-transform: uppercase; letter-spacing: .05em; color: var(--soft); margin: 1.2rem 0 .2rem }
nav ul { list-style: none; margin: 0; padding: 0 } nav a { display: block; padding: .12rem 0; color: var(--ink) } nav a[aria-current] { font-weight: 700 }
main { padding: 1.5rem 2rem 4rem; max-width: 56rem } h1 { line-height: 1.2 } h2 { margin-top: 2.2rem }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
pre, code { font: 14px/1.5 ui-monospace, monospace; background: var(--sheet); border-radius: 4px } code { padding: .1em .25em } pre { padding: .8rem 1rem; overflow-x: auto }
pre code { padding: 0; background: none } .wide { overflow-x: auto } table { border-collapse: collapse; margin: 1rem 0; font-size: 15px }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line) }
@media (max-width: 46rem) { body { display: block } nav { min-height: 0; border-right: 0; border-bottom: 1px solid var(--line) } nav ul { columns: 2 } main { padding: 1rem } }
";

/// A whole page. With a copy of the items' documentation in the site, links to them lead there.
pub(super) fn page(page: &Page, pages: &[Page], with_api: bool) -> String {
    let own_title =
        page.text.trim_start().starts_with("# ") && page.part != "Manual" && page.part != "Recipes";
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{} - Tenure</title>\n<style>{STYLE}</style></head>\n<body>\n",
        page.title
    );
    navigation(&mut out, page, pages, with_api);
    out += "<main>\n";
    if !own_title {
        let _ = writeln!(out, "<h1>{}</h1>", page.title);
    }
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut events: Vec<Event<'_>> = Parser::new_ext(&page.text, options).collect();
    for event in &mut events {
        match event {
            Event::Start(Tag::Link { dest_url, .. }) => {
                *dest_url = target(dest_url, page, pages, with_api).into()
            }
            Event::Start(Tag::Heading { level, .. }) if !own_title => *level = lower(*level),
            Event::End(TagEnd::Heading(level)) if !own_title => *level = lower(*level),
            Event::Start(Tag::CodeBlock(pulldown_cmark::CodeBlockKind::Fenced(info))) => {
                *info = CowStr::from(info.split([',', ' ']).next().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
    anchors(&mut events);
    let mut body = String::new();
    html::push_html(&mut body, events.into_iter());
    out += &body.replace("<table>", "<div class=\"wide\"><table>").replace("</table>", "</table></div>");
    out += "</main>\n</body></html>\n";
    out
}

fn navigation(out: &mut String, page: &Page, pages: &[Page], with_api: bool) {
    *out += "<nav aria-label=\"Pages\">\n";
    let mut part = "";
    for other in pages {
        if other.part != part {
            if !part.is_empty() {
                *out += "</ul>\n";
            }
            part = other.part;
            let _ = write!(out, "<h2>{part}</h2>\n<ul>\n");
        }
        let current = if other.html == page.html { " aria-current=\"page\"" } else { "" };
        let _ = writeln!(
            out,
            "<li><a href=\"{}\"{current}>{}</a></li>",
            way(&page.html, &other.html),
            other.title
        );
    }
    let api = if with_api { way(&page.html, "api/tenure/index.html") } else { format!("{API}tenure/") };
    let _ = write!(out, "<li><a href=\"{api}\">Rust API</a></li>\n</ul>\n</nav>\n");
}

/// Where a link leads in the site.
fn target(link: &str, page: &Page, pages: &[Page], with_api: bool) -> String {
    if let Some(item) = link.strip_prefix(API).filter(|_| with_api) {
        return way(&page.html, &format!("api/{item}"));
    }
    if link.contains("://") || link.starts_with('#') || link.starts_with("mailto:") {
        return link.to_owned();
    }
    let (file, anchor) =
        link.split_once('#').map_or((link, String::new()), |(file, a)| (file, format!("#{a}")));
    let path = plain(&Path::new(&page.source).parent().unwrap_or(Path::new("")).join(file));
    match pages.iter().find(|other| other.source == path) {
        Some(other) => format!("{}{anchor}", way(&page.html, &other.html)),
        None => format!("{REPOSITORY}{path}{anchor}"),
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> String {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out.display().to_string()
}

fn lower(level: HeadingLevel) -> HeadingLevel {
    HeadingLevel::try_from(level as usize + 1).unwrap_or(HeadingLevel::H6)
}

/// Gives each heading an anchor, as the repository's host does.
fn anchors(events: &mut [Event<'_>]) {
    let mut open: Option<(usize, String)> = None;
    for at in 0..events.len() {
        match &events[at] {
            Event::Start(Tag::Heading { .. }) => open = Some((at, String::new())),
            Event::Text(text) | Event::Code(text) => {
                if let Some((_, title)) = &mut open {
                    title.push_str(text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let Some((start, title)) = open.take() else { continue };
                if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
                    *id = Some(slug(&title).into());
                }
            }
            _ => {}
        }
    }
}

fn slug(title: &str) -> String {
    let kept = title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(html: &str, source: &str, text: &str) -> Page {
        Page {
            source: source.into(),
            html: html.into(),
            title: "T".into(),
            part: "Manual",
            text: text.into(),
        }
    }

    #[test]
    fn links_lead_to_pages_to_items_or_to_the_repository() {
        let here = sample(
            "manual/recipes/stock.html",
            "crates/tenure/src/manual/recipes/stock.md",
            "[a][x] [b](../fence.md#the-rule) [c](../../../Cargo.toml)\n\n[x]: https://docs.rs/tenure/latest/tenure/struct.Locks.html\n",
        );
        let pages = [sample("manual/fence.html", "crates/tenure/src/manual/fence.md", "")];
        let html = page(&here, &pages, true);
        for link in [
            "href=\"../../api/tenure/struct.Locks.html\"",
            "href=\"../../manual/fence.html#the-rule\"",
            "href=\"https://github.com/tenure-rs/tenure/blob/main/crates/tenure/Cargo.toml\"",
        ] {
            assert!(html.contains(link), "{link} is missing in {html}");
        }
        assert!(
            page(&here, &pages, false).contains("https://docs.rs/tenure/latest/tenure/struct.Locks.html")
        );
    }

    #[test]
    fn headings_have_anchors_and_stay_below_the_title() {
        let html = page(&sample("a.html", "a.md", "Text.\n\n# In your own `SQL` transaction\n"), &[], false);
        assert!(html.contains("<h2 id=\"in-your-own-sql-transaction\">"), "{html}");
    }
}
