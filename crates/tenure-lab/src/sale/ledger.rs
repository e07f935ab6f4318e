//! What the stock's log says: how much was sold, oversold and lost.

use std::collections::HashMap;

/// The judgement of one log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ledger {
    /// Accepted writes: each is one sale, acknowledged to a customer.
    pub(super) sold: u64,
    /// Sales beyond the initial stock.
    pub(super) oversold: u64,
    /// Accepted writes based on a value that was no longer current: each wrote over somebody else's sale.
    pub(super) lost_updates: u64,
    /// Reads and writes that were refused because a greater token had been seen.
    pub(super) refused: u64,
    /// The stock in the end.
    pub(super) left: i64,
    /// Lines that make no sense: none, unless the lab itself is wrong.
    pub(super) nonsense: u64,
    /// When each sale was accepted, in ns of the boot clock.
    pub(super) sales: Vec<u64>,
}

impl Ledger {
    /// Judges a log.
    pub(super) fn judge(stock: i64, log: &str) -> Ledger {
        let mut it = Ledger { left: stock, ..Ledger::default() };
        // How many writes had been accepted when a client last read.
        let mut seen: HashMap<i64, u64> = HashMap::new();
        for line in log.lines() {
            if it.take(line, &mut seen).is_none() {
                it.nonsense += 1;
            }
        }
        it.oversold = it.sold.saturating_sub(u64::try_from(stock).unwrap_or(0));
        it
    }

    fn take(&mut self, line: &str, seen: &mut HashMap<i64, u64>) -> Option<()> {
        let (deed, numbers) = line.split_once(' ')?;
        let numbers: Vec<i64> = numbers.split(' ').map_while(|n| n.parse().ok()).collect();
        let [t, client, value, _token] = numbers[..] else { return None };
        match deed {
            "r" if value == self.left => {
                seen.insert(client, self.sold);
            }
            "w" => {
                // A client that writes without having read is based on nothing: count it as lost too.
                self.lost_updates += u64::from(seen.get(&client) != Some(&self.sold));
                self.sold += 1;
                self.left = value;
                self.sales.push(u64::try_from(t).ok()?);
            }
            "x" => self.refused += 1,
            _ => return None,
        }
        Some(())
    }

    /// Whether exactly the stock was sold, one by one.
    pub(super) fn exact(&self, stock: i64) -> bool {
        i64::try_from(self.sold) == Ok(stock)
            && self.lost_updates == 0
            && self.left == 0
            && self.nonsense == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orderly_sale_is_exact() {
        let ledger = Ledger::judge(2, "r 1 7 2 0\nw 2 7 1 0\nr 3 8 1 0\nw 4 8 0 0\nr 5 7 0 0\n");
        assert!(ledger.exact(2), "{ledger:?}");
        assert_eq!((ledger.sold, ledger.oversold, ledger.lost_updates), (2, 0, 0));
    }

    #[test]
    fn a_write_over_somebody_elses_is_a_lost_update_and_leads_to_an_oversale() {
        let ledger = Ledger::judge(2, "r 1 7 2 0\nr 1 8 2 0\nw 2 7 1 0\nw 3 8 1 0\nr 4 7 1 0\nw 5 7 0 0\n");
        assert!(!ledger.exact(2));
        assert_eq!((ledger.sold, ledger.oversold, ledger.lost_updates, ledger.left), (3, 1, 1, 0));
    }

    #[test]
    fn the_same_value_is_not_the_same_version() {
        // Client 9 reads 2; others sell one and put one back by a stale write: 2 again, but not what 9 read.
        let ledger = Ledger::judge(
            3,
            "r 1 1 3 0\nw 1 1 2 0\nr 2 9 2 0\nr 3 1 2 0\nw 4 1 1 0\nr 5 1 1 0\nw 6 1 2 0\nw 7 9 1 0\n",
        );
        assert_eq!(ledger.lost_updates, 1);
    }

    #[test]
    fn refused_deeds_change_nothing() {
        let ledger = Ledger::judge(1, "r 1 7 1 5\nr 2 8 1 6\nx 3 7 0 5\nw 4 8 0 6\n");
        assert!(ledger.exact(1));
        assert_eq!(ledger.refused, 1);
    }

    #[test]
    fn a_log_that_contradicts_itself_is_never_exact() {
        for log in ["r 1 7 5 0\nr 2 7 1 0\nw 2 7 0 0\n", "hello\nr 2 7 1 0\nw 2 7 0 0\n"] {
            assert!(!Ledger::judge(1, log).exact(1), "{log}");
        }
    }
}
