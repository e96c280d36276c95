//! Message keys: artifact key, separator, entity id.
//! It must never build a key whose artifact part cannot be told from the entity.

/// Stands between the artifact key and the entity id, and between the parts of an entity id (ASCII unit separator).
pub const SEPARATOR: u8 = 0x1f;

/// Builds a message key.
pub fn message_key(artifact_key: &str, entity: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(artifact_key.len() + 1 + entity.len());
    key.extend_from_slice(artifact_key.as_bytes());
    key.push(SEPARATOR);
    key.extend_from_slice(entity);
    key
}

/// Whether `key` is the message key of this artifact and entity.
pub fn is_message_key(key: &[u8], artifact_key: &str, entity: &[u8]) -> bool {
    let rest = key.strip_prefix(artifact_key.as_bytes());
    rest.and_then(|rest| rest.strip_prefix(&[SEPARATOR])).is_some_and(|rest| rest == entity)
}

/// Splits a message key into artifact key and entity id; `None` if there is no separator or no UTF-8 before it.
pub fn split(key: &[u8]) -> Option<(&str, &[u8])> {
    let position = key.iter().position(|byte| *byte == SEPARATOR)?;
    Some((std::str::from_utf8(&key[..position]).ok()?, &key[position + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_it_joined() {
        let key = message_key("host/abc", b"a\x1fb");
        assert_eq!(split(&key), Some(("host/abc", &b"a\x1fb"[..])));
        assert!(is_message_key(&key, "host/abc", b"a\x1fb"));
        assert!(!is_message_key(&key, "host/ab", b"c\x1fa\x1fb") && !is_message_key(&key, "host/abc", b"a"));
        assert_eq!(split(b"no separator"), None);
        assert_eq!(split(b"\xff\x1fx"), None);
    }
}
