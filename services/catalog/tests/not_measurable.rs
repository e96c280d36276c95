//! Reasons for which a package is not measurable stand in one table with their remedies (`plimsoll_schemas`).
#![allow(clippy::unwrap_used)]

/// Nobody gives a reason that is not in this table.
#[test]
fn no_reason_stands_elsewhere() {
    let mut pending = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for part in text.split("not_measurable_reason =").skip(1) {
                    let value = part.split(';').next().unwrap();
                    let is_text = value.contains("\".to_owned()") || value.trim_end().ends_with('"');
                    assert!(!is_text, "{}: {value}", path.display());
                }
            }
        }
    }
}
