//! Columns for people.

use std::fmt;

/// What phones say of themselves on one line, and without what would move the cursor of a terminal: control
/// characters are spaces.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Rows of the same number of cells.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|text| (*text).to_owned()).collect()] }
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|text| plain(&text)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let cell =
            |row: &Vec<String>, column: usize| row.get(column).map_or(0, |c| c.chars().count());
        let width =
            |column| self.rows.iter().map(|row| cell(row, column)).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (text, width) in row.iter().zip(&widths) {
                let pad = " ".repeat(width - text.chars().count() + 2);
                line += &format!("{text}{pad}");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "NUMBER"]);
        table.row([String::from("jörgen"), String::from("1")]);
        table.row([String::from("a"), String::new()]);
        assert_eq!(table.to_string(), "NAME    NUMBER\njörgen  1\na\n");
    }

    #[test]
    fn what_a_phone_says_of_itself_does_not_move_the_cursor() {
        let mut table = Table::new(&["NAME"]);
        table.row([String::from("a\u{1b}[2J\r\nb")]);
        assert_eq!(table.to_string(), "NAME\na [2J  b\n");
    }
}
