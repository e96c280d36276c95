//! Reads PEAR's registry: one file of PHP's serialised data for each package that `pecl install` or `pear install` put
//! there. Never builds objects, and never follows references: what is no plain array ends the reading.

use crate::bounds::{LeftOut, bound};
use crate::tree::path;

/// Most files of one package that are taken.
const MAX_FILES: usize = bound(20_000, 1_000);
/// How deep arrays lie within each other; real ones stay below 12.
const MAX_DEPTH: usize = 64;
/// Longest name, version or licence, in bytes.
const MAX_TEXT_BYTES: usize = 300;

/// One installed package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Registered {
    pub name: String,
    /// `pecl.php.net`; older records of PEAR's own channel name none.
    pub channel: String,
    pub version: String,
    pub license: String,
    /// Where its files were put, relative to the root; documentation and tests left out.
    pub files: Vec<Vec<u8>>,
    pub left_out: LeftOut,
}

/// One file of the list that a package has.
struct Entry<'b> {
    file: &'b [u8],
    role: &'b [u8],
    place: &'b [u8],
}

/// Reads what there is up to a damage, and says what was wrong.
pub(super) fn parse(bytes: &[u8]) -> (Option<Registered>, Option<&'static str>) {
    let mut reader = Reader { bytes, at: 0 };
    let mut found = Registered::default();
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let is_whole =
        reader.value(&mut keys, &mut |path, value| found.take(&mut entries, path, value)).is_some();
    let is_kept =
        |entry: &&Entry<'_>| !matches!(entry.role, b"doc" | b"test" | b"src") && !entry.place.is_empty();
    let places = entries.iter().filter(is_kept).map(|entry| path::normalize(entry.place));
    found.files = places.collect();
    found.files.sort();
    found.files.dedup();
    let names_it = !found.name.is_empty() && !found.version.is_empty();
    let problem = match (names_it, is_whole) {
        (false, _) => Some("names no package and version"),
        (true, false) => Some("is damaged or of another shape"),
        (true, true) => None,
    };
    (names_it.then_some(found), problem)
}

impl Registered {
    /// One text of the record, by the keys that lead to it.
    fn take<'b>(&mut self, entries: &mut Vec<Entry<'b>>, path: &[&'b [u8]], value: &'b [u8]) {
        let text = || {
            let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MAX_TEXT_BYTES);
            text.filter(|text| !text.chars().any(|c| c.is_control())).unwrap_or_default().to_owned()
        };
        match path {
            [b"name"] | [b"package"] if self.name.is_empty() => {
                self.name = Some(text()).filter(|name| is_name(name)).unwrap_or_default();
            }
            [b"channel"] => self.channel = Some(text()).filter(|name| is_name(name)).unwrap_or_default(),
            [b"version"] | [b"version", b"release"] => self.version = text().replace(' ', ""),
            [b"license"] | [b"license", b"_content"] => self.license = text(),
            [b"filelist", file, field @ (b"role" | b"installed_as")] => {
                let is_known = entries.last().is_some_and(|entry| entry.file == *file);
                if !is_known && entries.len() >= MAX_FILES {
                    return self.left_out.beyond(MAX_FILES, "files");
                }
                if !is_known {
                    entries.push(Entry { file, role: b"", place: b"" });
                }
                if let Some(entry) = entries.last_mut() {
                    *(if *field == b"role" { &mut entry.role } else { &mut entry.place }) = value;
                }
            }
            _ => {}
        }
    }
}

/// As PEAR allows it.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_TEXT_BYTES
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
}

/// Takes a text, with the keys that lead to it.
type Visit<'v, 'b> = dyn FnMut(&[&'b [u8]], &'b [u8]) + 'v;

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// One value; texts are visited with the keys that lead to them. `None` where it is damaged.
    fn value(&mut self, path: &mut Vec<&'b [u8]>, visit: &mut Visit<'_, 'b>) -> Option<()> {
        match self.tag()? {
            b'a' => {
                let count = self.number(b':')?;
                self.expect(b"{")?;
                if path.len() >= MAX_DEPTH {
                    return None;
                }
                for _ in 0..count {
                    let key = self.key()?;
                    path.push(key);
                    self.value(path, visit)?;
                    path.pop();
                }
                self.expect(b"}")
            }
            b's' => {
                let text = self.text()?;
                visit(path, text);
                self.expect(b";")
            }
            b'N' => Some(()),
            b'i' | b'd' | b'b' => self.until(b';').map(drop),
            _ => None,
        }
    }

    fn key(&mut self) -> Option<&'b [u8]> {
        match self.tag()? {
            b's' => {
                let text = self.text()?;
                self.expect(b";")?;
                Some(text)
            }
            b'i' => self.until(b';'),
            _ => None,
        }
    }

    /// The letter of a value, with what follows it.
    fn tag(&mut self) -> Option<u8> {
        let tag = *self.bytes.get(self.at)?;
        self.at += 1;
        self.expect(if tag == b'N' { b";" } else { b":" })?;
        Some(tag)
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = self.number(b':')?;
        self.expect(b"\"")?;
        let end = self.at.checked_add(length)?;
        let text = self.bytes.get(self.at..end)?;
        self.at = end;
        self.expect(b"\"")?;
        Some(text)
    }

    fn number(&mut self, end: u8) -> Option<usize> {
        std::str::from_utf8(self.until(end)?).ok()?.parse().ok()
    }

    fn until(&mut self, end: u8) -> Option<&'b [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let length = memchr::memchr(end, rest)?;
        self.at += length + 1;
        Some(&rest[..length])
    }

    fn expect(&mut self, text: &[u8]) -> Option<()> {
        let is_there = self.bytes.get(self.at..)?.starts_with(text);
        self.at += text.len();
        is_there.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PHP writes it, of `key=value` and `key={…}`.
    fn text(value: &str) -> String {
        format!("s:{}:\"{value}\";", value.len())
    }

    fn array(entries: &[(&str, String)]) -> String {
        let inner: String = entries.iter().map(|(key, value)| format!("{}{value}", text(key))).collect();
        format!("a:{}:{{{inner}}}", entries.len())
    }

    fn redis() -> String {
        let file = |role: &str, place: &str| array(&[("role", text(role)), ("installed_as", text(place))]);
        array(&[
            ("attribs", array(&[("version", text("2.0"))])),
            ("name", text("redis")),
            ("channel", text("pecl.php.net")),
            ("version", array(&[("release", text("6.0.2")), ("api", text("6.0.0"))])),
            ("license", array(&[("attribs", array(&[])), ("_content", text("PHP"))])),
            ("_lastmodified", "i:1700000000;".to_owned()),
            ("providesextension", "N;".to_owned()),
            (
                "filelist",
                array(&[
                    ("README", file("doc", "/usr/share/doc/redis/README")),
                    ("redis.so", file("ext", "/usr/local/lib/php/extensions/x/redis.so")),
                    ("redis.c", file("src", "/never/redis.c")),
                ]),
            ),
        ])
    }

    #[track_caller]
    fn check(bytes: &str, expect: &str, problem: Option<&str>) {
        let (found, found_problem) = parse(bytes.as_bytes());
        let found = found.map_or_else(String::new, |one| {
            let files: Vec<String> = one.files.iter().map(|file| path::display(file)).collect();
            format!("{} {} {} {} {}", one.channel, one.name, one.version, one.license, files.join(","))
        });
        assert_eq!((found.as_str(), found_problem), (expect, problem), "{bytes}");
    }

    #[test]
    fn records() {
        let whole = redis();
        check(&whole, "pecl.php.net redis 6.0.2 PHP usr/local/lib/php/extensions/x/redis.so", None);
        check(
            &whole[..whole.len() - 1],
            "pecl.php.net redis 6.0.2 PHP usr/local/lib/php/extensions/x/redis.so",
            Some("is damaged or of another shape"),
        );
        let old = array(&[("package", text("DB")), ("version", text("1.0")), ("license", text("PHP"))]);
        check(&old, " DB 1.0 PHP ", None);
    }

    #[test]
    fn wrong_shapes() {
        const NOTHING: Option<&str> = Some("names no package and version");
        for bytes in [
            "",
            "a:1:{",
            "O:8:\"stdClass\":0:{}",
            "s:99999999999999999999:\"x\";",
            "s:5:\"x\";",
            "i:1;",
            "N;",
        ] {
            check(bytes, "", NOTHING);
        }
        check(&"a:1:{i:0;".repeat(100_000), "", NOTHING);
        let strange = array(&[("name", text("../x")), ("version", text("1"))]);
        check(&strange, "", NOTHING);
    }
}
