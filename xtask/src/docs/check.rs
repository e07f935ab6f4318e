//! Every link of the site leads somewhere. Links to other sites are not followed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::pages::Page;
use crate::Stop;

/// What is wrong, a line for each link.
pub(super) fn links(site: &Path, pages: &[Page]) -> Result<Vec<String>, Stop> {
    let mut faults = Vec::new();
    let mut seen: HashMap<PathBuf, Option<String>> = HashMap::new();
    for page in pages {
        let file = site.join(&page.html);
        let html = fs::read_to_string(&file)?;
        for link in html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { file.clone() } else { file.parent().unwrap_or(site).join(path) };
            let text = seen.entry(target).or_insert_with_key(|target| fs::read_to_string(target).ok());
            let whole = match text {
                None => false,
                Some(text) => anchor.is_empty() || text.contains(&format!("id=\"{anchor}\"")),
            };
            if !whole {
                faults.push(format!("{}: the link to {link} leads nowhere", page.source));
            }
        }
    }
    Ok(faults)
}
