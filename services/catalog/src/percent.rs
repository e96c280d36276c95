//! Bytes written as `%XX` (RFC 3986), as in URLs and in the names of Go's functions.
//! Never refuses anything: what is no such byte stays as it stands.

/// `text` with each `%XX` replaced by its byte.
pub(crate) fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        match after.first_chunk().filter(|_| *first == b'%').and_then(byte) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn byte(digits: &[u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &[u8]) {
        assert_eq!(decode(text.as_bytes()), expect, "{text}");
    }

    #[test]
    fn bytes() {
        check("yaml%2ev3", b"yaml.v3");
        check("%2E%C3%A9%00", b".\xc3\xa9\0");
        check("100%", b"100%");
        check("%2", b"%2");
        check("%+1%g0%%41", b"%+1%g0%A");
        check("", b"");
    }
}
