//! The table that `ls` and `watch` draw, and how it fits a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};

use tenure::{Kind, Line, Visibility};

use crate::text::{ago, cut_end, cut_middle, escape, short, width_of};
use crate::view::{kind, known, name, reads};

/// Between two columns.
const GAP: usize = 2;

/// One column: its head, the width that it keeps if it can, and how it gives way.
struct Column {
    head: &'static str,
    /// What it is cut to if there is no room for more; 0: it is never cut.
    least: usize,
    /// When it is left out: the highest first; 0: never.
    drop: u8,
    /// Whether the middle is cut out: names differ at their ends.
    middle: bool,
}

const fn whole(head: &'static str, drop: u8) -> Column {
    Column { head, least: 0, drop, middle: false }
}

const COLUMNS: [Column; 9] = [
    Column { head: "NAMESPACE", least: 10, drop: 0, middle: true },
    Column { head: "LOCK", least: 16, drop: 0, middle: true },
    whole("KIND", 1),
    Column { head: "HOLDER", least: 20, drop: 0, middle: false },
    whole("TOKEN", 6),
    whole("HELD FOR", 3),
    whole("EXPIRES IN", 5),
    whole("WAITING", 2),
    Column { head: "REASON", least: 8, drop: 4, middle: false },
];

/// How large the terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl Size {
    /// That of stdout, if it is a terminal that says so.
    pub(crate) fn of_stdout() -> Option<Size> {
        let size = stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(stdout()).ok()).flatten()?;
        let (width, height) = (usize::from(size.ws_col), usize::from(size.ws_row));
        (width > 0 && height > 0).then_some(Size { width, height })
    }
}

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// What the store shows.
    pub(crate) sees: Visibility,
    /// Whether the namespace is a column.
    pub(crate) namespaces: bool,
    /// Whether to show when leases end. A listing that is looked at for longer would show what is long renewed.
    pub(crate) leases: bool,
    /// The head in bold.
    pub(crate) bold: bool,
}

/// The lines of the table, the head first, each no wider than `width`.
pub(crate) fn draw<'a>(
    lines: impl IntoIterator<Item = &'a Line>,
    now_us: u64,
    look: Look,
    width: Option<usize>,
) -> Vec<String> {
    let rows: Vec<Vec<String>> = lines.into_iter().flat_map(|line| rows(line, now_us, look)).collect();
    let hidden = |column: &Column| {
        (column.head == "NAMESPACE" && !look.namespaces) || (column.head == "EXPIRES IN" && !look.leases)
    };
    let shown: Vec<usize> = (0..COLUMNS.len()).filter(|&at| !hidden(&COLUMNS[at])).collect();
    let natural =
        |at: usize| rows.iter().map(|row| width_of(&row[at])).fold(COLUMNS[at].head.len(), usize::max);
    let wants: Vec<(usize, usize)> = shown.into_iter().map(|at| (at, natural(at))).collect();
    let layout = match width {
        Some(width) => fit(wants, width),
        None => wants,
    };
    let head: Vec<String> = COLUMNS.iter().map(|column| column.head.to_owned()).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for &(at, width) in &layout {
            let cell =
                if COLUMNS[at].middle { cut_middle(&row[at], width) } else { cut_end(&row[at], width) };
            let _ = write!(line, "{cell}{:1$}", "", width - width_of(&cell) + GAP);
        }
        let line = line.trim_end();
        width.map_or_else(|| line.to_owned(), |width| cut_end(line, width))
    };
    let head = if look.bold { format!("\x1b[1m{}\x1b[0m", line(&head)) } else { line(&head) };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

/// Makes columns fit: leaves out those that matter least, then shares what is left among those that can be cut.
fn fit(mut columns: Vec<(usize, usize)>, width: usize) -> Vec<(usize, usize)> {
    let least = |&(at, natural): &(usize, usize)| match COLUMNS[at].least {
        0 => natural,
        least => natural.min(least),
    };
    let gaps = |columns: &[(usize, usize)]| GAP * columns.len().saturating_sub(1);
    let needs = |columns: &[(usize, usize)]| columns.iter().map(least).sum::<usize>() + gaps(columns);
    while needs(&columns) > width {
        let droppable = columns.iter().enumerate().filter(|(_, (at, _))| COLUMNS[*at].drop > 0);
        let Some((next, _)) = droppable.max_by_key(|(_, (at, _))| COLUMNS[*at].drop) else { break };
        columns.remove(next);
    }
    let mut given: Vec<usize> = columns.iter().map(least).collect();
    let mut free = width.saturating_sub(needs(&columns));
    // One at a time to each that wants more: short texts are whole, long ones equally long.
    while free > 0 {
        let mut gave = false;
        for (given, (_, natural)) in given.iter_mut().zip(&columns) {
            if free > 0 && *given < *natural {
                (*given, free, gave) = (*given + 1, free - 1, true);
            }
        }
        if !gave {
            break;
        }
    }
    // A very narrow terminal.
    while given.iter().sum::<usize>() + gaps(&columns) > width {
        let Some(widest) = given.iter_mut().max().filter(|widest| **widest > 1) else { break };
        *widest -= 1;
    }
    columns.iter().zip(given).map(|(&(at, _), given)| (at, given)).collect()
}

/// As many lines as there is room for; instead of the others, how many they are.
pub(crate) fn clip(mut lines: Vec<String>, most: usize, rest: &str) -> Vec<String> {
    let most = most.max(2);
    if lines.len() > most {
        let more = lines.len() - (most - 1);
        lines.truncate(most - 1);
        lines.push(format!("+{more} more{rest}"));
    }
    lines
}

/// The rows of one lock: one for each holder, or one if there is none.
fn rows(line: &Line, now_us: u64, look: Look) -> Vec<Vec<String>> {
    let (namespace, lock) = (escape(line.key.namespace()), escape(line.key.name()));
    let waiters =
        if look.sees == Visibility::Holders { "unknown".to_owned() } else { line.waiters.to_string() };
    if let Some(error) = &line.error {
        let dash = || "-".to_owned();
        let (unknown, error) = ("unknown".to_owned(), escape(&format!("error: {error}")));
        return vec![vec![namespace, lock, unknown, dash(), dash(), dash(), dash(), dash(), error]];
    }
    if line.holders.is_empty() {
        let dash = || "-".to_owned();
        let kind = kind(line).to_owned();
        return vec![vec![namespace, lock, kind, dash(), dash(), dash(), dash(), waiters, String::new()]];
    }
    let row = |seen: &tenure::Seen| {
        let kind = match line.kind {
            Kind::ReadWrite if reads(line, seen) => "rwlock read".to_owned(),
            Kind::ReadWrite => "rwlock write".to_owned(),
            Kind::Semaphore => format!("semaphore {}/{}", seen.weight, line.capacity),
            _ => kind(line).to_owned(),
        };
        vec![
            namespace.clone(),
            lock.clone(),
            kind,
            name(&seen.owner),
            seen.token.map_or_else(|| "-".into(), |t| t.to_string()),
            known(seen.since_us).map_or_else(|| "unknown".into(), |us| short(ago(us, now_us))),
            seen.expires_in.map_or_else(|| "never".into(), short),
            waiters.clone(),
            escape(&seen.reason),
        ]
    };
    line.holders.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tenure::{Key, Owner, Seen, Token};

    use super::*;

    const LOOK: Look = Look { sees: Visibility::Full, namespaces: false, leases: true, bold: false };

    fn line(name: &str, kind: Kind, weight: u32, capacity: u32) -> Line {
        let mut line = Line::new(Key::new("default", name).expect("a name"), kind, capacity);
        line.holders = vec![Seen {
            claim: "aaaaaa".into(),
            owner: Owner { user: "app".into(), host: "web-1".into(), pid: 4711, program: "charge".into() },
            reason: "order 42, second attempt".into(),
            since_us: 1_795_248_000_123_456,
            expires_in: Some(Duration::from_secs(20)),
            weight,
            token: Token::new(1_795_248_000_123_456),
            behind: 0,
        }];
        line
    }

    fn locks() -> Vec<Line> {
        vec![
            line("orders/42", Kind::Mutex, 1, 1),
            line(&format!("long/{}/end", "x".repeat(130)), Kind::ReadWrite, 1, u32::MAX),
            line("名前/名前/名前/名前/名前/名前/名前", Kind::Semaphore, 2, 3),
        ]
    }

    fn drawn(look: Look, width: Option<usize>) -> Vec<String> {
        draw(&locks(), 1_795_248_001_123_456, look, width)
    }

    #[test]
    fn every_width_is_kept_and_the_names_stay() {
        for width in 1..220 {
            for line in drawn(LOOK, Some(width)) {
                assert!(width_of(&line) <= width, "{width}: {line}");
            }
        }
        let table = drawn(LOOK, Some(80)).join("\n");
        for text in ["orders/42", "/end", "app@web-1 (pid 4711", "rwlock read", "semaphore 2/3", "HELD FOR"] {
            assert!(table.contains(text), "no {text} in:\n{table}");
        }
        assert!(!table.contains("TOKEN"), "{table}");
        let narrow = drawn(LOOK, Some(40)).join("\n");
        assert!(narrow.contains("LOCK") && narrow.contains("HOLDER") && narrow.contains("/end"), "{narrow}");
    }

    #[test]
    fn nothing_is_cut_without_a_terminal() {
        let table = drawn(LOOK, None);
        let columns = "LOCK KIND HOLDER TOKEN HELD FOR EXPIRES IN WAITING REASON";
        assert_eq!(table[0].split_whitespace().collect::<Vec<_>>().join(" "), columns);
        assert!(table[2].starts_with("long/") && table[2].ends_with("order 42, second attempt"));
        // Columns line up where characters are two columns wide as well.
        let at = |line: &str| width_of(line.split("app@web-1").next().unwrap_or_default());
        assert!(table[1..].iter().all(|line| at(line) == at(&table[1])), "{table:?}");
        let other = drawn(Look { namespaces: true, leases: false, ..LOOK }, None);
        assert!(other[0].starts_with("NAMESPACE") && !other[0].contains("EXPIRES"), "{other:?}");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let lines = || (0..40).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(clip(lines(), 40, ""), lines());
        let clipped = clip(lines(), 7, "; see --wide");
        assert_eq!(
            (clipped.len(), clipped[5].as_str(), clipped[6].as_str()),
            (7, "5", "+34 more; see --wide")
        );
    }
}
