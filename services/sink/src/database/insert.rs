//! The INSERT statements of all tables, with their columns by name.
//! It must never rely on the order of a table's columns in ClickHouse.

use crate::rows::{Column, HistoryTable, StateTable};

/// The INSERT of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsertStatement {
    /// Table name.
    pub table: &'static str,
    /// Statement; rows follow in RowBinary.
    pub sql: String,
}

impl InsertStatement {
    /// The INSERT of a state table, and that of its copy if it has one.
    pub fn of_state(table: StateTable) -> (Self, Option<Self>) {
        let columns = table.columns();
        (Self::new(table.name(), &columns), table.copy().map(|copy| Self::new(copy, &columns)))
    }

    /// The INSERT of a history table.
    pub fn of_history(table: HistoryTable) -> Self {
        Self::new(table.name(), &table.columns())
    }

    fn new(table: &'static str, columns: &[Column]) -> Self {
        let names: Vec<String> = columns.iter().map(|column| format!("`{}`", column.name)).collect();
        Self { table, sql: format!("INSERT INTO `{table}` ({}) FORMAT RowBinary", names.join(", ")) }
    }
}
