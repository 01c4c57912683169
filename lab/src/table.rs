//! A table of figures: aligned for people, rows of named values as data.

use std::fmt;

use serde_json::{Map, Value};

/// Rows that all have the same columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// An empty one; a figure's column ends in its unit.
    #[must_use]
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// One more row; words and numbers in the order of the columns.
    pub(crate) fn row<const N: usize>(&mut self, values: [Value; N]) {
        self.rows.push(values.into());
    }

    /// Whether it has no rows.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A list with one object for each row.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        let object = |row: &Vec<Value>| {
            let name = |column: &&str| column.replace(' ', "_");
            Value::Object(Map::from_iter(self.columns.iter().map(name).zip(row.iter().cloned())))
        };
        self.rows.iter().map(object).collect()
    }
}

impl fmt::Display for Table {
    /// Nothing at all where there are no rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let head = self.columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let rows = self.rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>());
        let lines: Vec<_> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| {
            lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0)
        };
        writeln!(f)?;
        for (number, line) in lines.iter().enumerate() {
            for (column, text) in line.iter().enumerate() {
                let width = width(column);
                // Words to the left, numbers to the right, and so their heads.
                let is_word =
                    self.rows.iter().all(|row| row.get(column).is_some_and(Value::is_string));
                let gap = if column == 0 { "" } else { "  " };
                match is_word {
                    true => write!(f, "{gap}{text:<width$}")?,
                    false => write!(f, "{gap}{text:>width$}")?,
                }
            }
            writeln!(f)?;
            if number == 0 {
                let all: usize = (0..line.len()).map(|column| width(column) + 2).sum();
                writeln!(f, "{}", "-".repeat(all.saturating_sub(2)))?;
            }
        }
        Ok(())
    }
}

/// One digit after the point is enough for people.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.1}"),
            Some(_) | None => number.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_for_people_and_named_as_data() {
        let mut table = Table::new(&["fault", "max ms"]);
        assert_eq!(table.to_string(), "");
        table.row(["kill".into(), 9.25.into()]);
        table.row(["hang".into(), 1234.0.into()]);
        let text = "\nfault  max ms\n-------------\nkill      9.2\nhang   1234.0\n";
        assert_eq!(table.to_string(), text);
        assert_eq!(table.to_json()[1], serde_json::json!({ "fault": "hang", "max_ms": 1234.0 }));
    }
}
