//! Plain tables: columns as wide as their widest cell, the last one as it comes.
//! It must never print a control character of the data.

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

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A table.
pub struct Table {
    rows: Vec<Vec<Cell>>,
    colours: bool,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let heading = headings.iter().map(|text| Cell::coloured(*text, Colour::Dim)).collect();
        Self { rows: vec![heading], colours: super::colours(std::io::stdout().is_terminal()) }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                // The last cell of a row needs no room: nothing stands behind it.
                .filter_map(|row| row.get(column).filter(|_| column + 1 < row.len()))
                .map(|cell| cell.text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let last = row.len().saturating_sub(1);
            for (column, cell) in row.iter().enumerate() {
                out.push_str(&self.paint(cell));
                if column < last {
                    let gap = widths[column].saturating_sub(cell.text.chars().count()) + 2;
                    out.extend(std::iter::repeat_n(' ', gap));
                }
            }
            out.push('\n');
        }
        out
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

    #[test]
    fn columns_line_up_and_control_characters_are_shown() {
        let mut table = Table { rows: Vec::new(), colours: false };
        table.row(vec!["A".into(), "B".into()]);
        table.row(vec!["long\x1b[31m".into(), "é".into()]);
        assert_eq!(table.render(), "A          B\nlong\u{fffd}[31m  é\n");
        table.row(vec!["a line of its own widens nothing".into()]);
        assert!(table.render().starts_with("A          B\n"));
    }
}
