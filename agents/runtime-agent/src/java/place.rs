//! The place of classes, from the URL of their code source: `outer.jar!/inner.jar`, a directory, the runtime image. Pure.
//! It must never name a place that it does not understand: such classes are told by their Java package.

use plimsoll_schemas::words::{PATH_MAX_BYTES, VIRTUAL_FILES};

/// Endings of archives; entries of other names are directories within the archive around them.
const ARCHIVES: [&[u8]; 11] =
    [b".jar", b".war", b".ear", b".zip", b".rar", b".sar", b".jmod", b".aar", b".hpi", b".jpi", b".par"];

/// Room for what stands around a place in a question, in bytes.
const MARKS_MAX_BYTES: usize = 16;

/// Where classes came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file or directory, without a leading slash; archives within archives behind `!/`.
    Path(Vec<u8>),
    /// A place in JBoss's virtual file system, as a path that begins with [`VIRTUAL_FILES`].
    Virtual(Vec<u8>),
    /// The JVM's own runtime image.
    RuntimeImage,
    /// A URL of a kind that says nothing about files.
    Unknown,
}

/// The place that a report names: a URL, and behind a zero byte the real path of its file.
pub fn place_of(reported: &[u8]) -> Place {
    let mut parts = reported.splitn(2, |byte| *byte == 0);
    let (url, real) = (parts.next().unwrap_or_default(), parts.next());
    if url == b"jrt:/" {
        return Place::RuntimeImage;
    }
    if let Some(path) = url.strip_prefix(VIRTUAL_FILES) {
        let path = decoded(path);
        return match trim(&path) {
            path if path.is_empty() || path.len() > PATH_MAX_BYTES - MARKS_MAX_BYTES => Place::Unknown,
            path => Place::Virtual([VIRTUAL_FILES, path].concat()),
        };
    }
    let Some((outer, nested)) = parse(url) else { return Place::Unknown };
    let outer = real.map_or(outer, <[u8]>::to_vec);
    let outer = outer.strip_suffix(b" (deleted)").unwrap_or(&outer);
    let outer = trim(outer);
    let mut place = outer.to_vec();
    for entry in nested {
        place.extend_from_slice(b"!/");
        place.extend_from_slice(&entry);
    }
    if outer.is_empty() || place.len() > PATH_MAX_BYTES {
        return Place::Unknown;
    }
    Place::Path(place)
}

/// The path of the outermost file, and the archives within it.
fn parse(url: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut rest = url;
    // Handlers stand before one another: jar:nested:, jar:war:file:, reference:file:.
    loop {
        if let Some(path) = rest.strip_prefix(b"file:").or_else(|| rest.strip_prefix(b"nested:")) {
            rest = path;
            break;
        }
        let known = [&b"jar:"[..], b"zip:", b"war:", b"reference:", b"initial@", b"wsjar:", b"mrjar:"];
        rest = known.iter().find_map(|scheme| rest.strip_prefix(*scheme))?;
        if rest.starts_with(b"/") {
            break;
        }
    }
    if let Some(authority) = rest.strip_prefix(b"//") {
        rest = &authority[authority.iter().position(|byte| *byte == b'/')?..];
    }
    if !rest.starts_with(b"/") {
        return None;
    }
    let mut parts = split(rest).into_iter().map(decoded);
    let outer = parts.next()?;
    let mut nested: Vec<Vec<u8>> =
        parts.map(|part| trim(&part).to_vec()).filter(|part| !part.is_empty()).collect();
    while nested.last().is_some_and(|last| !is_archive(last)) {
        nested.pop();
    }
    Some((outer, nested))
}

/// Cuts at `!/` (jar:), `/!` (nested:) and `*/` (Tomcat's war:).
fn split(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while at + 1 < path.len() {
        if matches!(&path[at..at + 2], b"!/" | b"/!" | b"*/") {
            parts.push(&path[from..at]);
            at += 2;
            from = at;
        } else {
            at += 1;
        }
    }
    parts.push(&path[from..]);
    parts
}

/// Percent-encoding undone (RFC 3986); what is none stays.
fn decoded(part: &[u8]) -> Vec<u8> {
    let digit = |at: usize| part.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(part.len());
    let mut at = 0;
    while let Some(byte) = part.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    bytes
}

fn trim(path: &[u8]) -> &[u8] {
    let from = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    let to = path.iter().rposition(|byte| *byte != b'/').map_or(from, |last| last + 1);
    &path[from..to.max(from)]
}

fn is_archive(name: &[u8]) -> bool {
    ARCHIVES.iter().any(|ending| {
        name.len() > ending.len() && name[name.len() - ending.len()..].eq_ignore_ascii_case(ending)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("file:/a/b.jar", "a/b.jar"),
            ("file:/a/classes/", "a/classes"),
            ("file:///a/b.jar", "a/b.jar"),
            ("file://host/a/b.jar", "a/b.jar"),
            ("file:/a/b%20c%2.jar", "a/b c%2.jar"),
            ("file:/link/b.jar\0/real/b.jar", "real/b.jar"),
            ("file:/a/gone.jar\0/a/gone.jar (deleted)", "a/gone.jar"),
            ("jar:file:/a.jar!/", "a.jar"),
            ("jar:file:/a.jar!/BOOT-INF/lib/x.jar!/", "a.jar!/BOOT-INF/lib/x.jar"),
            ("jar:file:/a.jar!/BOOT-INF/classes!/", "a.jar"),
            ("jar:nested:/o/a.jar/!BOOT-INF/lib/x%2B1.jar!/", "o/a.jar!/BOOT-INF/lib/x+1.jar"),
            ("jar:nested:/o/a.jar/!BOOT-INF/classes/!/", "o/a.jar"),
            ("jar:nested:/l/a.jar/!lib/x.jar!/\0/o/a.jar", "o/a.jar!/lib/x.jar"),
            ("jar:war:file:/w/app.war*/WEB-INF/lib/x.jar!/", "w/app.war!/WEB-INF/lib/x.jar"),
            ("file:/ear/app.ear/web.war/WEB-INF/classes/", "ear/app.ear/web.war/WEB-INF/classes"),
            ("zip:/w/x.jar!/", "w/x.jar"),
            ("reference:file:/p/bundle", "p/bundle"),
            ("initial@reference:file:/p/bundle.jar", "p/bundle.jar"),
        ] {
            assert_eq!(place_of(url.as_bytes()), Place::Path(expected.into()), "{url}");
        }
        for (url, expected) in [
            ("vfs:/content/a.war/WEB-INF/lib/x%20y.jar", "vfs:/content/a.war/WEB-INF/lib/x y.jar"),
            ("vfs:/content/a.war/WEB-INF/classes/", "vfs:/content/a.war/WEB-INF/classes"),
        ] {
            assert_eq!(place_of(url.as_bytes()), Place::Virtual(expected.into()), "{url}");
        }
        for url in
            ["", "vfs:/", "vfs:content/a.war", "http://h/a.jar", "file:a.jar", "file:/", "jar:", "file://h"]
        {
            assert_eq!(place_of(url.as_bytes()), Place::Unknown, "{url}");
        }
        assert_eq!(place_of(b"jrt:/"), Place::RuntimeImage);
        assert_eq!(place_of(&[b"file:/".as_slice(), &[b'a'; 5_000]].concat()), Place::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80), scheme in "(jar:|file:|nested:|file://|war:){0,3}[/!*%a]{0,9}") {
            place_of(&[scheme.as_bytes(), &bytes].concat());
            place_of(&bytes);
        }
    }
}
