//! Reads gemspecs in the form that RubyGems and Bundler write on installation (`Gem::Specification#to_ruby`).
//! Never evaluates Ruby: only assignments of literal texts and lists are understood, everything else is passed over.

use crate::bounds::{LeftOut, bound};
use crate::tree::MAX_PATH_BYTES;

/// Most files kept of one gem.
const MAX_FILES: usize = bound(100_000, 3_000);
/// Most dependencies, licences or programs kept of one gem.
const MAX_ENTRIES: usize = 2_000;
/// Longest name, version or platform accepted, in bytes.
const MAX_NAME_BYTES: usize = 300;

/// What a gemspec says; texts that are absent or unusable are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GemSpec {
    pub name: String,
    pub version: String,
    /// Empty for `ruby`: any platform.
    pub platform: String,
    pub licenses: Vec<String>,
    /// Runtime dependencies.
    pub dependencies: Vec<String>,
    pub executables: Vec<String>,
    pub files: Vec<String>,
    pub require_paths: Vec<String>,
    pub left_out: LeftOut,
}

impl GemSpec {
    /// The name of its directory: `name-version[-platform]`.
    pub fn full_name(&self) -> String {
        let mut full = format!("{}-{}", self.name, self.version);
        if !self.platform.is_empty() {
            full.push('-');
            full.push_str(&self.platform);
        }
        full
    }

    pub fn is_usable(&self) -> bool {
        !self.name.is_empty() && !self.version.is_empty()
    }

    /// Takes what is missing from the name of the file: `name-version[-platform]`.
    pub fn complete_from(&mut self, stem: &[u8]) {
        let Some((name, version, platform)) = std::str::from_utf8(stem).ok().and_then(split_full_name) else {
            return;
        };
        if self.name.is_empty() || (self.version.is_empty() && self.name == name) {
            (self.name, self.version) = (name.to_owned(), version.to_owned());
            self.platform = if platform == "ruby" { String::new() } else { platform.to_owned() };
        }
    }
}

/// Reads what there is.
pub(crate) fn parse(bytes: &[u8]) -> GemSpec {
    let text = String::from_utf8_lossy(bytes);
    let mut spec = GemSpec::default();
    let mut has_stub = false;
    // The `else` of old gemspecs repeats all dependencies for RubyGems of 2009, those of development too.
    let mut is_repetition = false;
    for line in text.lines() {
        if let Some(stub) = line.strip_prefix("# stub: ") {
            if !has_stub {
                has_stub = spec.take_stub(stub);
            }
            continue;
        }
        let line = line.trim_start();
        is_repetition |= line.trim_end() == "else";
        let Some((attribute, rest)) = attribute(line) else { continue };
        if is_repetition && attribute.starts_with("add_") {
            continue;
        }
        spec.take(attribute, rest, has_stub);
    }
    spec
}

impl GemSpec {
    /// `name version platform require_paths`, the last separated by NUL (Gem::StubSpecification).
    fn take_stub(&mut self, stub: &str) -> bool {
        let mut parts = stub.splitn(4, ' ');
        let (Some(name), Some(version), Some(platform)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        if !is_name(name) || !is_version(version) || !is_name(platform) {
            return false;
        }
        (self.name, self.version) = (name.to_owned(), version.to_owned());
        self.platform = if platform == "ruby" { String::new() } else { platform.to_owned() };
        self.require_paths =
            parts.next().unwrap_or_default().split('\0').take(MAX_ENTRIES + 1).map(str::to_owned).collect();
        self.left_out.keep(&mut self.require_paths, MAX_ENTRIES, "directories of libraries");
        true
    }

    fn take(&mut self, attribute: &str, rest: &str, has_stub: bool) {
        let text = |rest| text_of(rest).unwrap_or_default();
        match attribute {
            "name" if !has_stub => {
                self.name = Some(text(rest)).filter(|name| is_name(name)).unwrap_or_default()
            }
            "version" if !has_stub => {
                self.version = Some(text(rest)).filter(|version| is_version(version)).unwrap_or_default();
            }
            "platform" if !has_stub => {
                let named = |platform: &String| platform != "ruby" && is_name(platform);
                self.platform = Some(text(rest)).filter(named).unwrap_or_default();
            }
            "license" => self.licenses.extend(text_of(rest)),
            "licenses" => self.licenses.extend(texts_of(rest, MAX_ENTRIES, &mut self.left_out)),
            "executables" => self.executables.extend(texts_of(rest, MAX_ENTRIES, &mut self.left_out)),
            "files" => self.files.extend(texts_of(rest, MAX_FILES, &mut self.left_out)),
            "require_paths" if !has_stub => {
                self.require_paths = texts_of(rest, MAX_ENTRIES, &mut self.left_out);
            }
            "add_runtime_dependency" | "add_dependency" if self.dependencies.len() <= MAX_ENTRIES => {
                self.dependencies.extend(text_of(rest).filter(|name| is_name(name)));
                self.left_out.keep(&mut self.dependencies, MAX_ENTRIES, "dependencies");
            }
            _ => {}
        }
    }
}

/// Name and right side of `s.name = …`, or name and arguments of `s.add_dependency(…)`.
fn attribute(line: &str) -> Option<(&str, &str)> {
    let (receiver, rest) = line.split_once('.')?;
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_word(receiver) {
        return None;
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, rest) = rest.split_at(end);
    let rest = rest.trim_start();
    let value = match rest.as_bytes().first()? {
        b'=' if !rest.starts_with("==") => &rest[1..],
        b'(' if name.starts_with("add_") => &rest[1..],
        b'"' | b'\'' | b'%' if name.starts_with("add_") => rest,
        _ => return None,
    };
    Some((name, value.trim_start()))
}

/// The text that an expression begins with, if it is nothing but that text.
fn text_of(expression: &str) -> Option<String> {
    let literal = ["Gem::Version.new(", "Gem::Platform.new("]
        .iter()
        .find_map(|call| expression.strip_prefix(call))
        .unwrap_or(expression);
    let (text, rest) = literal_text(literal)?;
    let rest = rest.strip_prefix(".freeze").unwrap_or(rest).trim_start();
    let is_whole = rest.is_empty() || rest.starts_with([')', ',', ';', '#']) || rest.starts_with("if ");
    if is_whole { text } else { None }
}

/// The texts of a list literal on one line, or a single text.
fn texts_of(expression: &str, max_entries: usize, left_out: &mut LeftOut) -> Vec<String> {
    let Some(mut rest) = expression.strip_prefix('[') else {
        return text_of(expression).into_iter().collect();
    };
    let mut texts = Vec::new();
    while texts.len() <= max_entries {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let Some((text, after)) = literal_text(rest) else { break };
        if text.as_ref().is_some_and(|text| text.len() > MAX_PATH_BYTES) {
            left_out.beyond(MAX_PATH_BYTES, "bytes in an entry of a list");
        } else {
            texts.extend(text);
        }
        rest = after.strip_prefix(".freeze").unwrap_or(after);
    }
    left_out.keep(&mut texts, max_entries, "entries of a list");
    texts
}

/// A quoted text and what follows it; the text is `None` if it is computed.
fn literal_text(source: &str) -> Option<(Option<String>, &str)> {
    let (end, is_raw, body) = if let Some(body) = source.strip_prefix('"') {
        ('"', false, body)
    } else if let Some(body) = source.strip_prefix('\'') {
        ('\'', true, body)
    } else if let Some(body) = source.strip_prefix("%q<") {
        ('>', true, body)
    } else {
        return None;
    };
    let mut text = String::new();
    let mut is_computed = false;
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        if character == end {
            return Some(((!is_computed).then_some(text), &body[at + 1..]));
        }
        match character {
            '\\' => match characters.next()?.1 {
                'n' if !is_raw => text.push('\n'),
                't' if !is_raw => text.push('\t'),
                escaped => text.push(escaped),
            },
            '#' if !is_raw && body[at + 1..].starts_with(['{', '@', '$']) => is_computed = true,
            other => text.push(other),
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.starts_with('.')
}

/// As Gem::Version takes them: digits first, parts of letters and digits, a pre-release behind a hyphen.
pub(crate) fn is_version(version: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&version.len())
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

/// Name, version and platform of `name-version[-platform]`.
fn split_full_name(full: &str) -> Option<(&str, &str, &str)> {
    for (hyphen, _) in full.rmatch_indices('-') {
        let rest = &full[hyphen + 1..];
        let (version, platform) = rest.split_once('-').unwrap_or((rest, ""));
        let is_whole = version.contains('.') || platform.is_empty();
        let name = &full[..hyphen];
        if is_whole && is_version(version) && is_name(name) && (platform.is_empty() || is_name(platform)) {
            return Some((name, version, platform));
        }
    }
    None
}

/// The version in `VERSION = "1.2.3"`, as gems write it into lib/…/version.rb.
pub(crate) fn version_constant(source: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(source);
    let assigned = text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("VERSION")?.trim_start().strip_prefix('=')?;
        text_of(rest.trim_start())
    });
    assigned.filter(|version| is_version(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(source: &str, expect: &str) {
        let spec = parse(source.as_bytes());
        let lists = [&spec.licenses, &spec.dependencies, &spec.executables, &spec.files, &spec.require_paths];
        let lists: Vec<String> = lists.iter().map(|list| list.join(",")).collect();
        assert_eq!(format!("{} [{}]", spec.full_name(), lists.join("] [")), expect, "{source}");
    }

    #[test]
    fn gemspecs() {
        check(
            "# -*- encoding: utf-8 -*-\n# stub: nokogiri 1.13.10 x86_64-linux lib\0ext\n# stub: ext/x/extconf.rb\n\n\
             Gem::Specification.new do |s|\n  s.name = \"other\".freeze\n  s.licenses = [\"MIT\".freeze, \"X\\\"Y\".freeze]\n\
             \x20 s.executables = [\"nokogiri\".freeze]\n  s.files = [\"lib/a.rb\".freeze, \"bin/#{x}\", \"b\"] if s.respond_to? :f\n\
             \x20 s.metadata = { \"a\" => \"b\" }\n\
             \x20 s.add_runtime_dependency(%q<racc>.freeze, [\"~> 1.4\"])\n  s.add_development_dependency(%q<rake>.freeze, [\">= 0\"])\n\
             else\n  s.add_dependency(%q<rake>.freeze, [\">= 0\"])\nend\n",
            "nokogiri-1.13.10-x86_64-linux [MIT,X\"Y] [racc] [nokogiri] [lib/a.rb,b] [lib,ext]",
        );
        check(
            "Gem::Specification.new do |spec|\n  spec.name = 'a'\n  spec.version = Gem::Version.new(\"1.0.0.pre1\")\n  spec.license = \"MIT\" # yes\n\
             \x20 spec.files = Dir[\"lib/**/*\"]\n  spec.add_dependency \"b\", \">= 1\"\nend",
            "a-1.0.0.pre1 [MIT] [b] [] [] []",
        );
        // Computed, so not known.
        check(
            "Gem::Specification.new do |s|\n s.name = \"a#{1}\"\n s.version = A::VERSION\n s.version == \"1\"",
            "- [] [] [] [] []",
        );
        check("s.name = \"a\" + `id`\ns.version = \"1\".succ", "- [] [] [] [] []");
        check("s.files = [\"never closed", "- [] [] [] [] []");
        check("# stub: ../../etc 1 ruby lib\n", "- [] [] [] [] []");
        check("\u{0}\u{fffd}", "- [] [] [] [] []");
    }

    #[test]
    fn full_names() {
        for (full, expect) in [
            ("rack-2.2.4", Some(("rack", "2.2.4", ""))),
            ("nokogiri-1.13.10-x86_64-linux", Some(("nokogiri", "1.13.10", "x86_64-linux"))),
            ("net-http2-0.18.4", Some(("net-http2", "0.18.4", ""))),
            ("x-3", Some(("x", "3", ""))),
            ("no-version", None),
            ("", None),
        ] {
            assert_eq!(split_full_name(full), expect, "{full}");
        }
        assert_eq!(version_constant(b"module A\n  VERSION = '1.2.3'.freeze\nend").as_deref(), Some("1.2.3"));
        assert_eq!(version_constant(b"VERSION = [1, 2].join"), None);
    }

    proptest! {
        #[test]
        fn random_texts_never_panic(source in "[s. =\"'%q<>\\\\#{}\\[\\],nameversionfiles\n\u{0}é]{0,200}") {
            let spec = parse(source.as_bytes());
            prop_assert!(spec.name.is_empty() || is_name(&spec.name));
        }
    }
}
