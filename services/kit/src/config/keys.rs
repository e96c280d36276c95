//! The keys of a configuration struct, read off its default value; nearest names.
//! Never knows a particular key.

use serde_json::Value;

/// Dotted keys of all leaves with their values. Empty objects are leaves: maps with free keys.
pub(super) fn leaves(tree: &Value) -> Vec<(String, Value)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&key, value, out);
                }
            }
            _ => out.push((prefix.to_owned(), value.clone())),
        }
    }
    let mut out = Vec::new();
    walk("", tree, &mut out);
    out
}

/// How a dotted key is written as environment variable.
pub(super) fn environment_name(key: &str) -> String {
    format!("PLIMSOLL_{}", key.replace('.', "_").to_uppercase())
}

/// The known name nearest to `name`, unless even that is far off.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let best = known.map(|candidate| (edit_distance(name, candidate), candidate)).min()?;
    let limit = (name.len() / 3).max(2);
    (best.0 <= limit).then(|| best.1.to_owned())
}

/// Levenshtein's distance in characters.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        fn check(name: &str, expect: Option<&str>) {
            let known = ["kafka.brokers", "kafka.topic_prefix", "admin.bind"];
            assert_eq!(nearest(name, known.into_iter()).as_deref(), expect, "{name}");
        }
        check("kafka.broker", Some("kafka.brokers"));
        check("kafak.brokers", Some("kafka.brokers"));
        check("kafka.prefix", None);
        check("kafka.topic-prefix", Some("kafka.topic_prefix"));
        check("zzz", None);
        check("", None);
    }

    #[test]
    fn distance() {
        fn check(a: &str, b: &str, expect: usize) {
            assert_eq!(edit_distance(a, b), expect, "{a} {b}");
        }
        check("", "abc", 3);
        check("kitten", "sitting", 3);
        check("same", "same", 0);
    }
}
