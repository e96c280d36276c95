//! Lists `clickhouse/*.sql` as a Rust table, in the order of their numbers.
//! It must never let a gap or a doubled number pass: the build fails.

use std::fmt::Write as _;
use std::path::Path;

/// Rust source of the table.
pub fn generate(directory: &Path) -> String {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry.expect("readable directory").file_name().into_string().expect("file names are UTF-8")
        })
        .filter(|name| name.ends_with(".sql"))
        .collect();
    names.sort();
    let mut out =
        "/// Every migration, in the order of application.\npub const MIGRATIONS: &[Migration] = &[\n"
            .to_owned();
    for (index, file) in names.iter().enumerate() {
        let stem = file.strip_suffix(".sql").expect("filtered above");
        let (number, name) =
            stem.split_once('_').unwrap_or_else(|| panic!("{file}: write <number>_<name>.sql"));
        let number: u32 = number.parse().unwrap_or_else(|_| panic!("{file}: no number before the name"));
        assert!(number as usize == index + 1, "{file}: numbers go up from 1 without gaps");
        let path = directory.join(file).display().to_string();
        writeln!(out, "    Migration {{ number: {number}, name: {name:?}, sql: include_str!({path:?}) }},")
            .expect("string");
    }
    out.push_str("];\n");
    out
}
