//! Plain tables: columns as wide as their widest cell, the last one as it comes; on narrow terminals folded and cut.
//! It must never print a control character of the data, nor a line that the terminal would break.

use std::io::IsTerminal as _;

/// Colour of a cell, where colours are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    #[default]
    None,
    Red,
    Yellow,
    Green,
    Dim,
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    colour: Colour,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text: printable(&text), colour: Colour::None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Cell {
    /// A coloured cell.
    pub fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self { colour, ..Self::from(text.into()) }
    }
}

impl Cell {
    /// The same cell with another text.
    fn with(&self, text: String) -> Self {
        Self { text, colour: self.colour }
    }

    /// At most so many characters; the middle goes, since the ends of names and paths tell the most.
    fn cut_to(&self, width: usize) -> Self {
        let length = self.text.chars().count();
        if length <= width {
            return self.clone();
        }
        let head = width.saturating_sub(1) / 2;
        let tail = width.saturating_sub(1) - head;
        let text: String =
            self.text.chars().take(head).chain(['…']).chain(self.text.chars().skip(length - tail)).collect();
        self.with(text)
    }
}

/// Lines of at most so many characters, broken at blanks, and within what has none.
fn fold(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let is_first = length == 0 && lines.len() == 1 && lines[0].is_empty();
        if !is_first && length + 1 + word.len() <= width {
            lines.last_mut().expect("there is a line").push(' ');
            length += 1;
        } else if !is_first {
            lines.push(String::new());
            length = 0;
        }
        while length + word.len() > width {
            let rest = word.split_off(width - length);
            lines.last_mut().expect("there is a line").extend(word);
            lines.push(String::new());
            (word, length) = (rest, 0);
        }
        length += word.len();
        lines.last_mut().expect("there is a line").extend(word);
    }
    lines
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table.
pub struct Table {
    rows: Vec<Vec<Cell>>,
    colours: bool,
    /// Columns that a line may take; `None` where nobody looks at a terminal.
    width: Option<usize>,
}

/// Blanks between two columns.
const GAP: usize = 2;
/// Fewest characters of the last column beside the others; where there is less room it stands below them.
const MIN_LAST: usize = 24;
/// Fewest characters to which a column is cut.
const MIN_COLUMN: usize = 8;
/// How far what stands below a row is indented.
const BELOW: usize = 4;

/// How the columns of a table are laid out.
struct Layout {
    /// Of all columns but the last.
    widths: Vec<usize>,
    /// Where the last column begins, and how wide it may be.
    last_at: usize,
    last_width: usize,
    /// Whether the last column stands on lines of its own.
    is_below: bool,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let heading = headings.iter().map(|text| Cell::coloured(*text, Colour::Dim)).collect();
        let colours = super::colours(std::io::stdout().is_terminal());
        Self { rows: vec![heading], colours, width: super::terminal_width() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text. Where lines would be too long for the terminal, the last column is folded, and others are cut
    /// in the middle: `-o json` has them whole.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let layout = self.layout(columns);
        let mut out = String::new();
        for row in &self.rows {
            let Some((last, others)) = row.split_last() else {
                out.push('\n');
                continue;
            };
            if others.is_empty() {
                self.push_line_of_its_own(&mut out, last);
                continue;
            }
            let mut at = 0;
            for (cell, width) in others.iter().zip(&layout.widths) {
                let cell = cell.cut_to(*width);
                let length = cell.text.chars().count();
                out.push_str(&self.paint(&cell));
                at += width + GAP;
                out.extend(std::iter::repeat_n(' ', width - length + GAP));
            }
            let mut lines = fold(&last.text, layout.last_width).into_iter();
            if layout.is_below {
                out.truncate(out.trim_end_matches(' ').len());
                at = usize::MAX;
            }
            if at != usize::MAX {
                out.push_str(&self.paint(&last.with(lines.next().unwrap_or_default())));
            }
            for line in lines.filter(|line| !line.is_empty()) {
                out.push('\n');
                out.extend(std::iter::repeat_n(' ', layout.last_at));
                out.push_str(&self.paint(&last.with(line)));
            }
            out.push('\n');
        }
        out
    }

    /// A row of one cell, which widens nothing: folded below its own indentation.
    fn push_line_of_its_own(&self, out: &mut String, cell: &Cell) {
        let text = cell.text.trim_start_matches(' ');
        let indent = cell.text.len() - text.len();
        let width = self.width.map_or(usize::MAX, |width| width.saturating_sub(indent + 2).max(MIN_COLUMN));
        for (number, line) in fold(text, width).into_iter().enumerate() {
            out.extend(std::iter::repeat_n(' ', if number == 0 { indent } else { indent + 2 }));
            out.push_str(&self.paint(&cell.with(line)));
            out.push('\n');
        }
    }

    fn layout(&self, columns: usize) -> Layout {
        let widest = |column: usize, is_last: bool| {
            let rows = self.rows.iter().filter(|row| (row.len() == column + 1) == is_last && row.len() > 1);
            let cells = rows.filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        // The last cell of a row needs no room: nothing stands behind it.
        let mut widths: Vec<usize> =
            (0..columns.saturating_sub(1)).map(|column| widest(column, false)).collect();
        let beside = |widths: &[usize]| widths.iter().map(|width| width + GAP).sum::<usize>();
        let last = if columns > 1 { widest(columns - 1, true) } else { 0 };
        let Some(width) = self.width else {
            let last_at = beside(&widths);
            return Layout { widths, last_at, last_width: usize::MAX, is_below: false };
        };
        let last_at = beside(&widths);
        if last_at + last.min(MIN_LAST) <= width {
            return Layout { widths, last_at, last_width: width - last_at, is_below: false };
        }
        // Nothing stands behind the last of the others then.
        while beside(&widths) > width + GAP {
            let Some(longest) = widths.iter_mut().max().filter(|width| **width > MIN_COLUMN) else { break };
            *longest -= 1;
        }
        let last_width = width.saturating_sub(BELOW).max(MIN_COLUMN);
        Layout { widths, last_at: BELOW, last_width, is_below: true }
    }

    fn paint(&self, cell: &Cell) -> String {
        let code = match cell.colour {
            _ if !self.colours => return cell.text.clone(),
            Colour::None => return cell.text.clone(),
            Colour::Red => "31",
            Colour::Yellow => "33",
            Colour::Green => "32",
            Colour::Dim => "2",
        };
        format!("\x1b[{code}m{}\x1b[0m", cell.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>) -> Table {
        Table { rows: Vec::new(), colours: false, width }
    }

    #[test]
    fn columns_line_up_and_control_characters_are_shown() {
        let mut table = table(None);
        table.row(vec!["A".into(), "B".into()]);
        table.row(vec!["long\x1b[31m".into(), "é".into()]);
        assert_eq!(table.render(), "A          B\nlong\u{fffd}[31m  é\n");
        table.row(vec!["a line of its own widens nothing".into()]);
        assert!(table.render().starts_with("A          B\n"));
    }

    const ROW: [&str; 6] = [
        "org.apache.logging.log4j:log4j-core",
        "2.14.1",
        "application",
        "yes: 6 critical, exploited",
        "yes: loaded",
        "upgrade to 2.17.1, which no version of what needs it forbids",
    ];

    fn report(width: usize) -> Vec<String> {
        let mut table = table(Some(width));
        table.row(
            ["PACKAGE", "VERSION", "KIND", "VULNERABLE", "USED", "RECOMMENDATION"].map(Cell::from).into(),
        );
        table.row(ROW.map(Cell::from).into());
        table.row(vec![
            format!("  loaded {}  app/lib/log4j-core-2.14.1.jar", "org.apache.logging.".repeat(5)).into(),
        ]);
        table.render().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_fit_every_terminal() {
        for width in [20, 40, 60, 70, 80, 100, 132, 200, 400] {
            let lines = report(width);
            let long: Vec<&String> =
                lines.iter().filter(|line| line.chars().count() > width.max(54)).collect();
            assert!(long.is_empty(), "{width}: {lines:#?}");
            // Nothing of the last column is lost.
            let words: String = lines.concat().split(' ').filter(|word| !word.is_empty()).collect();
            assert!(words.contains(&ROW[5].replace(' ', "")), "{width}: {lines:#?}");
        }
    }

    #[test]
    fn a_wide_terminal_changes_nothing() {
        assert_eq!(
            report(400)[1].split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect::<Vec<_>>(),
            ROW
        );
        assert_eq!(report(400).len(), 3);
    }

    #[test]
    fn narrow_ones_fold_the_last_column_and_cut_names_in_the_middle() {
        let lines = report(80);
        assert_eq!(lines[1], "    RECOMMENDATION", "{lines:#?}");
        assert!(lines[2].starts_with("org.apache") && lines[2].contains("log4j-core  2.14.1"), "{lines:#?}");
        assert!(lines[3].starts_with("    upgrade to 2.17.1"), "{lines:#?}");
        let lines = report(130);
        assert!(lines[1].ends_with("upgrade to 2.17.1, which no"), "{lines:#?}");
        assert_eq!(lines[2].trim(), "version of what needs it", "{lines:#?}");
    }

    #[test]
    fn folding() {
        for (text, width, expect) in [
            ("a bc def", 4, &["a bc", "def"][..]),
            ("a bc def", 100, &["a bc def"]),
            ("abcdefgh", 3, &["abc", "def", "gh"]),
            ("", 5, &[""]),
            ("a  b", 3, &["a ", "b"]),
        ] {
            assert_eq!(fold(text, width), expect, "{text:?} in {width}");
        }
    }
}
