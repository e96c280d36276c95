//! The migrations of the ClickHouse database, from `clickhouse/*.sql`.
//! It must never hold a statement that cannot be repeated: two services may apply the same migration at once.

/// One file of statements. Once released it never changes: a new file changes what it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Number, from 1 without gaps; migrations are applied in this order.
    pub number: u32,
    /// Name of the file without number and ending.
    pub name: &'static str,
    /// Statements, each ended by a semicolon.
    pub sql: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

impl Migration {
    /// Digest of the text, as recorded when it was applied: `sha256:<hex>`.
    pub fn checksum(&self) -> String {
        crate::identity::Sha256Digest::of(self.sql.as_bytes()).to_string()
    }

    /// The statements, without comments and final semicolons.
    pub fn statements(&self) -> Vec<String> {
        statements(self.sql)
    }
}

/// Splits SQL text at the semicolons that stand outside of quotes and comments; drops `--` comments.
pub fn statements(sql: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut characters = sql.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' | '"' | '`' => {
                current.push(character);
                copy_quoted(&mut characters, &mut current, character);
            }
            '-' if characters.peek() == Some(&'-') => {
                while characters.next_if(|next| *next != '\n').is_some() {}
            }
            ';' => push_statement(&mut found, &mut current),
            _ => current.push(character),
        }
    }
    push_statement(&mut found, &mut current);
    found
}

fn copy_quoted(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String, quote: char) {
    while let Some(character) = characters.next() {
        out.push(character);
        if character == '\\' {
            out.extend(characters.next());
        } else if character == quote {
            return;
        }
    }
}

fn push_statement(found: &mut Vec<String>, current: &mut String) {
    let statement = current.trim();
    if !statement.is_empty() {
        found.push(statement.to_owned());
    }
    current.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_semicolons_that_end_statements() {
        let check = |sql: &str, expected: &[&str]| assert_eq!(statements(sql), expected, "{sql}");
        check("", &[]);
        check("SELECT 1", &["SELECT 1"]);
        check("-- a; b\nSELECT 1; SELECT 2;\n", &["SELECT 1", "SELECT 2"]);
        check("SELECT ';', `a;b`, \"c;\" -- d;\n;", &["SELECT ';', `a;b`, \"c;\""]);
        check("SELECT 'it''s; so', 'a\\'; b'; SELECT 3", &["SELECT 'it''s; so', 'a\\'; b'", "SELECT 3"]);
    }

    #[test]
    fn every_statement_may_be_repeated() {
        const REPEATABLE: &[&str] = &[
            "CREATE TABLE IF NOT EXISTS ",
            "CREATE VIEW IF NOT EXISTS ",
            "CREATE OR REPLACE VIEW ",
            "DROP VIEW IF EXISTS ",
            "DROP TABLE IF EXISTS ",
        ];
        for migration in MIGRATIONS {
            for statement in migration.statements() {
                let column = statement.starts_with("ALTER TABLE ")
                    && [" ADD COLUMN IF NOT EXISTS ", " MODIFY SETTING ", " MODIFY TTL ", " MODIFY COMMENT "]
                        .iter()
                        .any(|clause| statement.contains(clause));
                let first_line = statement.lines().next().unwrap_or_default();
                assert!(
                    column || REPEATABLE.iter().any(|start| statement.starts_with(start)),
                    "{}: {first_line:?} cannot be repeated",
                    migration.name
                );
            }
        }
    }
}
