//! The counters that a HotSpot JVM keeps in its hsperfdata file (jdk.internal.perf, format 2.0). Pure.
//! It must never trust the file: its JVM's user can write anything into it.

/// Entries that are looked at.
const ENTRIES_MAX: usize = 4_096;
/// Longest value that is taken, in bytes.
const VALUE_MAX_BYTES: usize = 16 * 1024;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Text(String),
}

/// The value of one counter.
pub fn find(file: &[u8], wanted: &str) -> Option<Value> {
    let little = match file.get(..5)? {
        [0xca, 0xfe, 0xc0, 0xc0, order] => *order == 1,
        _ => return None,
    };
    let number = |at: usize| {
        let bytes: [u8; 4] = file.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let value = if little { i32::from_le_bytes(bytes) } else { i32::from_be_bytes(bytes) };
        usize::try_from(value).ok()
    };
    let mut entry = number(24)?;
    for _ in 0..number(28)?.min(ENTRIES_MAX) {
        let (length, name_at, count) = (number(entry)?, number(entry + 4)?, number(entry + 8)?);
        let (kind, data_at) = (*file.get(entry + 12)?, number(entry + 16)?);
        let name = file.get(entry.checked_add(name_at)?..)?;
        let name = &name[..name.iter().take(256).position(|byte| *byte == 0)?];
        if name == wanted.as_bytes() {
            let data = file.get(entry.checked_add(data_at)?..)?;
            return match kind {
                b'J' => {
                    let bytes: [u8; 8] = data.get(..8)?.try_into().ok()?;
                    Some(Value::Number(if little {
                        i64::from_le_bytes(bytes)
                    } else {
                        i64::from_be_bytes(bytes)
                    }))
                }
                b'B' => {
                    let text = &data[..count.min(VALUE_MAX_BYTES).min(data.len())];
                    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
                    Some(Value::Text(String::from_utf8_lossy(&text[..end]).into_owned()))
                }
                _ => None,
            };
        }
        if length == 0 {
            return None;
        }
        entry = entry.checked_add(length)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these counters.
    fn file(entries: &[(&str, Value)]) -> Vec<u8> {
        let mut bytes = vec![0xca, 0xfe, 0xc0, 0xc0, 1, 2, 0, 1];
        bytes.resize(32, 0);
        bytes[24] = 32;
        bytes[28] = entries.len() as u8;
        for (name, value) in entries {
            let (kind, data) = match value {
                Value::Number(number) => (b'J', number.to_le_bytes().to_vec()),
                Value::Text(text) => (b'B', text.as_bytes().to_vec()),
            };
            let data_at = (20 + name.len() + 1).next_multiple_of(8);
            let length = (data_at + data.len()).next_multiple_of(8);
            let begin = bytes.len();
            for word in [length, 20, data.len()] {
                bytes.extend_from_slice(&(word as u32).to_le_bytes());
            }
            bytes.extend_from_slice(&[kind, 0, 0, 0]);
            bytes.extend_from_slice(&(data_at as u32).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.resize(begin + data_at, 0);
            bytes.extend_from_slice(&data);
            bytes.resize(begin + length, 0);
        }
        bytes
    }

    #[test]
    fn finds_counters() {
        let file = file(&[
            ("java.cls.loadedClasses", Value::Number(7)),
            ("java.rt.vmArgs", Value::Text("-Xrs -Xmx9m\0\0".into())),
            ("java.cls.unloadedClasses", Value::Number(1 << 40)),
        ]);
        assert_eq!(find(&file, "java.cls.unloadedClasses"), Some(Value::Number(1 << 40)));
        assert_eq!(find(&file, "java.rt.vmArgs"), Some(Value::Text("-Xrs -Xmx9m".into())));
        assert_eq!(find(&file, "none"), None);
        assert_eq!(find(b"", "none"), None);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(at in 0_usize..200, byte in proptest::num::u8::ANY, cut in 0_usize..200) {
            let mut file = file(&[("a", Value::Number(7)), ("b", Value::Text("x".into()))]);
            if let Some(place) = file.get_mut(at) { *place = byte; }
            file.truncate(cut);
            find(&file, "b");
        }
    }
}
