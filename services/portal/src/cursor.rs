//! Opaque cursors and the size of a page: where the next page begins, bound to the question that it belongs to.
//! A cursor must never be read as one of another question, and never reaches SQL as text.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plimsoll_schemas::identity::Sha256Digest;

use crate::error::PortalError;

/// Largest page, in items.
pub const LIMIT_MAX: u32 = 1_000;
/// Page where the reader asks for no size, in items.
pub const LIMIT_DEFAULT: u32 = 100;
/// Longest cursor that is read, in bytes.
const CURSOR_MAX_BYTES: usize = 16_384;
/// Digits of the digest that binds a cursor to its question.
const SCOPE_DIGITS: usize = 12;

/// Which page of which question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Items wanted.
    pub limit: u32,
    /// Sort key of the last item of the page before; `None` for the first page.
    pub after: Option<Vec<String>>,
    scope: String,
}

impl PageRequest {
    /// Reads `limit` and `cursor`. `question` is everything that the answer depends on: path, filters and order.
    ///
    /// # Errors
    /// [`PortalError::BadRequest`] for a limit out of bounds and for a cursor of another question.
    pub fn new(question: &[&str], limit: Option<u32>, cursor: Option<&str>) -> Result<Self, PortalError> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            return Err(PortalError::bad_request(
                format!("limit is {limit}"),
                format!("give a limit from 1 to {LIMIT_MAX}, and follow next_cursor for more"),
            ));
        }
        let mut scope = Sha256Digest::of(question.join("\u{1f}").as_bytes()).to_string().split_off(7);
        scope.truncate(SCOPE_DIGITS);
        let after = match cursor.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(read(text, &scope)?),
        };
        Ok(Self { limit, after, scope })
    }

    /// The cursor of the page behind an item with this sort key.
    pub fn cursor_after(&self, key: &[String]) -> String {
        let mut parts = vec![self.scope.as_str()];
        parts.extend(key.iter().map(String::as_str));
        // A list of strings always serializes.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&parts).unwrap_or_default())
    }
}

fn read(text: &str, scope: &str) -> Result<Vec<String>, PortalError> {
    let bad = |detail: &str| {
        PortalError::bad_request(
            detail,
            "take next_cursor from the answer before, with the same path, filters and sort",
        )
    };
    if text.len() > CURSOR_MAX_BYTES {
        return Err(bad("the cursor is too long"));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad("the cursor is not one of this portal"))?;
    let mut parts: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|_| bad("the cursor is not one of this portal"))?;
    if parts.first().is_none_or(|given| given != scope) {
        return Err(bad("the cursor belongs to another question"));
    }
    parts.remove(0);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_for_its_question_only() {
        let first = PageRequest::new(&["packages", "kind=os"], None, None).unwrap();
        let key = vec!["<script>".to_owned(), "é/\u{0}'".to_owned(), "-5".to_owned()];
        let cursor = first.cursor_after(&key);
        assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        let next = PageRequest::new(&["packages", "kind=os"], Some(5), Some(&cursor)).unwrap();
        assert_eq!((next.limit, next.after), (5, Some(key)));
        assert!(PageRequest::new(&["packages", "kind=application"], None, Some(&cursor)).is_err());
    }

    #[test]
    fn refuses_bad_pages() {
        let check = |limit, cursor: Option<&str>, ok: bool| {
            assert_eq!(PageRequest::new(&["q"], limit, cursor).is_ok(), ok, "{limit:?} {cursor:?}");
        };
        check(None, None, true);
        check(Some(LIMIT_MAX), Some(""), true);
        check(Some(0), None, false);
        check(Some(LIMIT_MAX + 1), None, false);
        check(None, Some("zzzz"), false);
        check(None, Some("%%%"), false);
        check(None, Some("W10"), false);
        check(None, Some(&"A".repeat(CURSOR_MAX_BYTES + 1)), false);
    }
}
