//! Figures that are committed beside the code: tables in a Markdown file, which a test makes anew and
//! compares with what is there. With [`BLESS`] in the environment it writes the file instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The environment variable that has tables written instead of compared.
pub const BLESS: &str = "SYNOD_BLESS";

/// What a column is, and so how far a figure may be off the committed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Column {
    /// A part of the row's name.
    Name,
    /// The same, to the letter.
    Exact,
    /// A number that may be this many per cent off, or this much if that is more.
    Near(f64, f64),
    /// A number, and the most that it may be: a blessing leaves this many per cent of room, or this much
    /// if that is more. Written as `3 ≤ 4`.
    AtMost(f64, f64),
}

use Column::{AtMost, Exact, Name, Near};

/// One table.
#[derive(Debug)]
pub struct Table {
    title: String,
    about: String,
    columns: Vec<(&'static str, Column)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        about: impl Into<String>,
        columns: &[(&'static str, Column)],
    ) -> Table {
        Table {
            title: title.into(),
            about: about.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// When it has not one cell for each column, or the name of another row.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "{cells:?}");
        let name = self.name(&cells);
        let taken = self.rows.iter().any(|row| self.name(row) == name);
        assert!(!taken, "{}: two rows are called {name}", self.title);
        self.rows.push(cells);
    }

    /// Adds the rows of a table that was begun alike.
    ///
    /// # Panics
    ///
    /// As [`row`](Table::row).
    pub fn append(&mut self, other: Table) {
        other.rows.into_iter().for_each(|row| self.row(row));
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What a row is called: its cells in the columns that are names.
    fn name(&self, cells: &[String]) -> String {
        let named = cells
            .iter()
            .zip(&self.columns)
            .filter(|(cell, (_, kind))| *kind == Name && !cell.is_empty());
        let words: Vec<&str> = named.map(|(cell, _)| cell.as_str()).collect();
        words.join(", ")
    }
}

/// A file of tables.
#[derive(Debug)]
pub struct Figures {
    path: PathBuf,
    head: String,
    tests: &'static str,
    tables: Vec<Table>,
}

/// How often figures are made before a row that differs is said to: [`Figures::check_made`].
const TRIES: usize = 3;

/// What is not as it is committed.
#[derive(Debug)]
struct Difference {
    /// The table and the row.
    row: String,
    text: String,
}

/// The cells of each row by the row's name, for each table by its title.
type Committed = BTreeMap<String, Vec<Vec<String>>>;

impl Figures {
    /// The file `docs/NAME` of the workspace, made by the test programs `tests`, with what stands
    /// above its tables.
    #[must_use]
    pub fn new(name: &str, tests: &'static str, head: impl Into<String>) -> Figures {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the package lies in the workspace");
        Figures {
            path: workspace.join("docs").join(name),
            head: head.into(),
            tests,
            tables: Vec::new(),
        }
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Compares with the committed file, or writes it when [`BLESS`] says so.
    ///
    /// # Panics
    ///
    /// When a figure is off, with all that are; when the file cannot be read or written.
    pub fn check(self) {
        if std::env::var_os(BLESS).is_some() {
            self.write();
            return;
        }
        let (differences, notes) = self.compare(&self.committed());
        for note in notes {
            eprintln!("{note}");
        }
        self.refuse(&differences);
    }

    /// As [`check`](Figures::check), for figures in which time has a part: a row that differs is made anew, three times
    /// in all, and counts only when it differs each time. That is no dice until they fall well: a protocol that asks for
    /// more asks for it each time, while a machine that stands still for a moment, so that a wait is given up which else
    /// is not, does so in one row or another.
    ///
    /// # Panics
    ///
    /// As [`check`](Figures::check).
    pub fn check_made(mut make: impl FnMut() -> Figures) {
        if std::env::var_os(BLESS).is_some() {
            make().write();
            return;
        }
        let (figures, differences) = lasting(Figures::committed, make);
        figures.refuse(&differences);
    }

    fn committed(&self) -> Committed {
        parse(&std::fs::read_to_string(&self.path).unwrap_or_default())
    }

    fn write(&self) {
        let text = self.render(&self.committed());
        std::fs::create_dir_all(self.path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&self.path, text).expect("the file can be written");
    }

    fn refuse(&self, differences: &[Difference]) {
        let texts: Vec<&str> = differences.iter().map(|one| one.text.as_str()).collect();
        assert!(
            differences.is_empty(),
            "{} of the figures in {} are others now:\n\n{}\n\nIf this is what the change is meant to do, \
             run\n\n    {BLESS}=1 cargo test -p synod-tests {}\n\nand commit the file with the change.\n",
            differences.len(),
            self.path.display(),
            texts.join("\n"),
            self.tests
        );
    }

    /// What is worse or otherwise than it should be, and what could be committed lower.
    fn compare(&self, committed: &Committed) -> (Vec<Difference>, Vec<String>) {
        let (mut differences, mut notes) = (Vec::new(), Vec::new());
        let mut differs = |row: &str, what: &str| {
            differences.push(Difference {
                row: row.to_owned(),
                text: format!("{row}: {what}"),
            });
        };
        for table in &self.tables {
            let rows = committed.get(&table.title).map_or(&[][..], Vec::as_slice);
            for row in &table.rows {
                let name = table.name(row);
                let name = format!("{}: {name}", table.title);
                let Some(old) = find(table, rows, row) else {
                    differs(&name, "not in the file");
                    continue;
                };
                for ((old, new), (column, kind)) in old.iter().zip(row).zip(&table.columns) {
                    if !agrees(*kind, old, new) {
                        differs(&name, &format!("{column}: committed {old}, found {new}"));
                    } else if could_be_less(*kind, old, new) {
                        notes.push(format!(
                            "{name}: {column}: committed {old}, found only {new}; to be blessed"
                        ));
                    }
                }
            }
            for old in rows {
                if find(table, &table.rows, old).is_none() {
                    let name = table.name(old);
                    differs(&format!("{}: {name}", table.title), "only in the file");
                }
            }
        }
        for title in committed.keys() {
            if !self.tables.iter().any(|table| table.title == *title) {
                differs(title, "only in the file");
            }
        }
        (differences, notes)
    }

    /// The file. A committed figure that is near enough stays, so that only what has changed changes.
    fn render(&self, committed: &Committed) -> String {
        let mut text = format!("{}\n", self.head.trim_end());
        for table in &self.tables {
            let rows = committed.get(&table.title).map_or(&[][..], Vec::as_slice);
            let rows: Vec<Vec<String>> = table
                .rows
                .iter()
                .map(|row| bless(table, find(table, rows, row), row))
                .collect();
            let names: Vec<String> = table
                .columns
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect();
            let widths: Vec<usize> = (0..names.len())
                .map(|column| {
                    let cells = rows.iter().chain([&names]);
                    cells
                        .map(|cells| cells[column].chars().count())
                        .max()
                        .unwrap_or(0)
                })
                .collect();
            let _ = write!(text, "\n## {}\n\n", table.title);
            if !table.about.is_empty() {
                let _ = write!(text, "{}\n\n", table.about.trim_end());
            }
            line(&mut text, &names, &widths, &table.columns);
            let rule: Vec<String> = table
                .columns
                .iter()
                .zip(&widths)
                .map(|((_, kind), width)| {
                    let end = if is_number(*kind) { ":" } else { "-" };
                    format!("{}{end}", "-".repeat(width.saturating_sub(1)))
                })
                .collect();
            line(&mut text, &rule, &widths, &table.columns);
            for row in &rows {
                line(&mut text, row, &widths, &table.columns);
            }
        }
        text
    }
}

/// What differs in the rows that differ however often they are made, and the figures that were made last.
fn lasting(
    committed: impl Fn(&Figures) -> Committed,
    mut make: impl FnMut() -> Figures,
) -> (Figures, Vec<Difference>) {
    let mut rows: Option<BTreeSet<String>> = None;
    let mut tried = 0;
    loop {
        let figures = make();
        tried += 1;
        let (mut differences, notes) = figures.compare(&committed(&figures));
        if let Some(rows) = &rows {
            differences.retain(|one| rows.contains(&one.row));
        }
        if differences.is_empty() || tried == TRIES {
            for note in notes {
                eprintln!("{note}");
            }
            return (figures, differences);
        }
        for one in &differences {
            eprintln!("{}; made anew", one.text);
        }
        rows = Some(differences.into_iter().map(|one| one.row).collect());
    }
}

fn is_number(kind: Column) -> bool {
    matches!(kind, Near(..) | AtMost(..))
}

fn line(text: &mut String, cells: &[String], widths: &[usize], columns: &[(&str, Column)]) {
    for ((cell, width), (_, kind)) in cells.iter().zip(widths).zip(columns) {
        let _ = if is_number(*kind) {
            write!(text, "| {cell:>width$} ")
        } else {
            write!(text, "| {cell:<width$} ")
        };
    }
    text.push_str("|\n");
}

fn parse(text: &str) -> Committed {
    let mut tables = Committed::new();
    let mut title = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            title = heading.trim().to_owned();
        } else if let Some(cells) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |")) {
            let cells = cells.split(" | ").map(|cell| cell.trim().to_owned());
            tables
                .entry(title.clone())
                .or_default()
                .push(cells.collect());
        }
    }
    // The first two lines of a table are its head and the rule below.
    for rows in tables.values_mut() {
        rows.drain(..rows.len().min(2));
    }
    tables
}

fn find<'r>(table: &Table, rows: &'r [Vec<String>], row: &[String]) -> Option<&'r Vec<String>> {
    let fits =
        |old: &&Vec<String>| old.len() == table.columns.len() && table.name(old) == table.name(row);
    rows.iter().find(fits)
}

fn number(cell: &str) -> Option<f64> {
    cell.parse().ok()
}

fn agrees(kind: Column, old: &str, new: &str) -> bool {
    let numbers = number(old).zip(number(new));
    match kind {
        Name | Exact => old == new,
        Near(percent, slack) => numbers
            .is_some_and(|(old, new)| (new - old).abs() <= (old * percent / 100.0).max(slack)),
        AtMost(..) => {
            old == new
                || most(old)
                    .zip(number(new))
                    .is_some_and(|(old, new)| new <= old)
        }
    }
}

fn could_be_less(kind: Column, old: &str, new: &str) -> bool {
    let AtMost(room, slack) = kind else {
        return false;
    };
    let numbers = most(old).zip(number(new));
    numbers.is_some_and(|(old, new)| old > 1.0 && bound(new, room, slack) * 1.5 < old)
}

fn bless(table: &Table, old: Option<&Vec<String>>, new: &[String]) -> Vec<String> {
    let columns = new.iter().zip(&table.columns).enumerate();
    columns
        .map(|(index, (new, (_, kind)))| {
            let old = old.and_then(|old| old.get(index));
            match old {
                Some(old) if agrees(*kind, old, new) && !could_be_less(*kind, old, new) => {
                    old.clone()
                }
                _ => match (kind, number(new)) {
                    (AtMost(room, slack), Some(found)) => {
                        format!("{new} ≤ {}", show(bound(found, *room, *slack)))
                    }
                    _ => new.clone(),
                },
            }
        })
        .collect()
}

/// The second number of `3 ≤ 4`.
fn most(cell: &str) -> Option<f64> {
    number(cell.split_once("≤")?.1.trim())
}

/// What to allow when this much was found once.
fn bound(found: f64, room: f64, slack: f64) -> f64 {
    let most = (found * (1.0 + room / 100.0)).max(found + slack);
    let step = if most < 10.0 { 0.1 } else { 1.0 };
    // Not a step more because a tenth is no binary fraction.
    (most / step - 1e-6).ceil() * step
}

/// A number with three digits or so.
#[must_use]
pub fn show(number: f64) -> String {
    let scale = match number.abs() {
        ..9.995 => 100.0,
        ..99.95 => 10.0,
        _ => 1.0,
    };
    ((number * scale).round() / scale).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(calls: &str, bytes: &str, bound: &str) -> Figures {
        let columns = [
            ("what", Name),
            ("calls", Exact),
            ("bytes", Near(5.0, 2.0)),
            ("most", AtMost(30.0, 0.1)),
        ];
        let mut table = Table::new("Lock", "How it is.", &columns);
        table.row(["free", calls, bytes, bound].map(str::to_owned).to_vec());
        let mut figures = Figures::new("none.md", "--test none", "# Head");
        figures.table(table);
        figures
    }

    fn texts(differences: Vec<Difference>) -> Vec<String> {
        differences.into_iter().map(|one| one.text).collect()
    }

    fn committed() -> Committed {
        parse(&figures("1 Txn", "100", "2").render(&Committed::new()))
    }

    #[test]
    fn what_was_written_agrees_and_small_differences_do() {
        let committed = committed();
        assert_eq!(committed["Lock"], [["free", "1 Txn", "100", "2 ≤ 2.6"]]);
        for (calls, bytes, bound) in [("1 Txn", "100", "2"), ("1 Txn", "95", "2.6")] {
            let (differences, notes) = figures(calls, bytes, bound).compare(&committed);
            assert!(
                differences.is_empty() && notes.is_empty(),
                "{differences:?}"
            );
        }
        let again = figures("1 Txn", "104", "1.9").render(&committed);
        assert_eq!(parse(&again), committed);
    }

    #[test]
    fn what_differs_is_named() {
        let (differences, _) = figures("2 Txn", "106", "2.7").compare(&committed());
        let expected = [
            "Lock: free: calls: committed 1 Txn, found 2 Txn",
            "Lock: free: bytes: committed 100, found 106",
            "Lock: free: most: committed 2 ≤ 2.6, found 2.7",
        ];
        assert_eq!(texts(differences), expected);
    }

    #[test]
    fn a_row_that_differs_each_time_differs() {
        // Another row of the same table, which is as it should be.
        let made = |free: &str, held: &str| {
            let mut made = figures(free, "100", "2");
            let mut other = made.tables[0].rows[0].clone();
            (other[0], other[1]) = ("held".to_owned(), held.to_owned());
            made.tables[0].row(other);
            made
        };
        let committed = parse(&made("1 Txn", "1 Txn").render(&Committed::new()));
        let find = |made: [Figures; TRIES]| {
            let mut made = made.into_iter();
            let found = lasting(|_| committed.clone(), || made.next().unwrap());
            (texts(found.1), made.count())
        };
        let (good, off) = ("1 Txn", "2 Txn");
        let well = |free, held| [made(free, held), made(good, good), made(off, off)];
        assert_eq!(find(well(good, good)), (Vec::new(), 2));
        assert_eq!(find(well(off, good)), (Vec::new(), 1));
        // One row and then the other.
        let (differences, left) = find([made(off, good), made(good, off), made(off, off)]);
        assert_eq!((differences.len(), left), (0, 1));
        let (differences, left) = find([made(off, off), made(off, good), made(off, off)]);
        let expected = ["Lock: free: calls: committed 1 Txn, found 2 Txn"];
        assert_eq!((&*differences, left), (&expected.map(str::to_owned)[..], 0));
    }

    #[test]
    fn rows_that_came_or_went_are_differences() {
        let mut other = figures("1 Txn", "100", "2");
        other.tables[0].rows[0][0] = "held".to_owned();
        let (differences, _) = other.compare(&committed());
        assert_eq!(
            texts(differences),
            [
                "Lock: held: not in the file",
                "Lock: free: only in the file"
            ]
        );
        let none = Figures::new("none.md", "", "");
        assert_eq!(
            texts(none.compare(&committed()).0),
            ["Lock: only in the file"]
        );
    }

    #[test]
    fn a_bound_far_too_high_is_noted_and_blessed_lower() {
        let figures = figures("1 Txn", "100", "0.5");
        let committed = committed();
        let (differences, notes) = figures.compare(&committed);
        assert!(differences.is_empty());
        assert_eq!(notes.len(), 1);
        assert!(figures.render(&committed).contains("| 0.5 ≤ 0.7 |"));
    }
}
