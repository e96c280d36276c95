//! Reads the main section of `META-INF/MANIFEST.MF` (JAR File Specification): what a jar says of itself.
//! Never reads the sections of single files behind it.

use super::archive::is_archive_name;
use crate::bounds::LeftOut;
use serde::{Deserialize, Serialize};

/// Most of the file that is read, in bytes; the main section stands at its beginning.
pub(crate) const MAX_MANIFEST_BYTES: usize = 256 * 1024;
/// Longest value that is kept, in bytes.
const MAX_VALUE_BYTES: usize = 512;
/// Longest Bundle-ClassPath that is read, in bytes: a bundle may carry a hundred archives.
const MAX_CLASS_PATH_BYTES: usize = 16 * 1024;
/// Most directories of a Bundle-ClassPath; real ones have one or two.
const MAX_CLASS_PATH_DIRECTORIES: usize = 20;
/// Most archives of a Bundle-ClassPath.
const MAX_CLASS_PATH_ARCHIVES: usize = 1_000;

/// What identifies a jar; absent values are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Manifest {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub implementation_title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub implementation_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub implementation_vendor_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub specification_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bundle_symbolic_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bundle_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub automatic_module_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub main_class: String,
    /// Spring Boot's name for the application's own main class.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub start_class: String,
    /// Directories of a bundle's class path (OSGi Core 3.9), below which its own classes stand as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_path: Vec<String>,
    /// Archives on it, seen from the bundle.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class_path_archives: Vec<String>,
}

impl Manifest {
    /// The version that it names first: Implementation-Version, Bundle-Version, Specification-Version.
    pub fn version(&self) -> &str {
        let versions = [&self.implementation_version, &self.bundle_version, &self.specification_version];
        versions.into_iter().find(|version| !version.is_empty()).map_or("", String::as_str)
    }

    /// Lines of at most 72 bytes, continued by lines that begin with a blank; keys in any case.
    pub fn parse(bytes: &[u8], left_out: &mut LeftOut) -> Self {
        let mut manifest = Self::default();
        let mut key: Vec<u8> = Vec::new();
        let mut value: Vec<u8> = Vec::new();
        let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        for line in lines.chain([b"".as_slice()]) {
            if let Some(more) = line.strip_prefix(b" ") {
                if value.len() <= MAX_CLASS_PATH_BYTES {
                    value.extend_from_slice(more);
                }
                continue;
            }
            manifest.set(&key, &value, left_out);
            key.clear();
            if line.is_empty() && manifest_has_begun(&value) {
                return manifest;
            }
            if let Some(colon) = memchr::memchr(b':', line) {
                key.extend_from_slice(&line[..colon]);
                value = line[colon + 1..].to_vec();
            }
        }
        if bytes.len() >= MAX_MANIFEST_BYTES {
            left_out.beyond(MAX_MANIFEST_BYTES, "bytes in the main section of the manifest");
        }
        manifest
    }

    fn set(&mut self, key: &[u8], value: &[u8], left_out: &mut LeftOut) {
        let field = match key.to_ascii_lowercase().as_slice() {
            b"implementation-title" => &mut self.implementation_title,
            b"implementation-version" => &mut self.implementation_version,
            b"implementation-vendor-id" => &mut self.implementation_vendor_id,
            b"specification-version" => &mut self.specification_version,
            b"bundle-symbolicname" => &mut self.bundle_symbolic_name,
            b"bundle-version" => &mut self.bundle_version,
            b"automatic-module-name" => &mut self.automatic_module_name,
            b"main-class" => &mut self.main_class,
            b"start-class" => &mut self.start_class,
            b"bundle-classpath" => return self.set_class_path(value, left_out),
            _ => return,
        };
        let text = String::from_utf8_lossy(value);
        // Directives follow a symbolic name behind a semicolon.
        let text = if key.eq_ignore_ascii_case(b"bundle-symbolicname") {
            text.split(';').next().unwrap_or_default()
        } else {
            &text
        };
        let text = text.trim();
        if text.len() > MAX_VALUE_BYTES {
            left_out.beyond(MAX_VALUE_BYTES, "bytes in a value of the manifest");
        }
        let usable =
            text.len() <= MAX_VALUE_BYTES && !text.contains("${") && !text.chars().any(char::is_control);
        *field = if usable { text.to_owned() } else { String::new() };
    }

    /// Paths joined by commas, each with directives behind semicolons; `.` is the bundle itself.
    fn set_class_path(&mut self, value: &[u8], left_out: &mut LeftOut) {
        if value.len() > MAX_CLASS_PATH_BYTES {
            left_out.beyond(MAX_CLASS_PATH_BYTES, "bytes in the bundle's class path");
        }
        let text = String::from_utf8_lossy(value);
        let entries = text
            .split(',')
            .map(|entry| entry.split(';').next().unwrap_or_default().trim().trim_matches('/'))
            .filter(|path| !matches!(*path, "" | "."))
            .filter(|path| path.len() <= MAX_VALUE_BYTES && !path.chars().any(char::is_control));
        let (archives, directories): (Vec<&str>, Vec<&str>) = entries.partition(|path| is_archive_name(path));
        let owned = |paths: Vec<&str>| paths.into_iter().map(str::to_owned).collect::<Vec<String>>();
        (self.class_path, self.class_path_archives) = (owned(directories), owned(archives));
        let what = "directories in the bundle's class path";
        left_out.keep(&mut self.class_path, MAX_CLASS_PATH_DIRECTORIES, what);
        let what = "archives in the bundle's class path";
        left_out.keep(&mut self.class_path_archives, MAX_CLASS_PATH_ARCHIVES, what);
    }
}

/// Some manifests begin with an empty line.
fn manifest_has_begun(last_value: &[u8]) -> bool {
    !last_value.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_a_bundle() {
        #[track_caller]
        fn check(class_path: &str, expect: &[&str], is_whole: bool) {
            let mut left_out = LeftOut::default();
            let text = format!("Bundle-ClassPath: {class_path}\n");
            assert_eq!(Manifest::parse(text.as_bytes(), &mut left_out).class_path, expect, "{class_path}");
            assert_eq!(left_out.is_empty(), is_whole, "{class_path}");
        }
        check(".,a-1.jar, lib/b.jar", &[], true);
        check("., bin/ ,/WEB-INF/classes,lib/c.jar;x:=\"1\"", &["bin", "WEB-INF/classes"], true);
        check("a\u{1}b,\n  in", &["in"], true);
        check(&"x,".repeat(MAX_CLASS_PATH_DIRECTORIES + 1), &["x"; MAX_CLASS_PATH_DIRECTORIES], false);
        check(&"y".repeat(MAX_CLASS_PATH_BYTES + 1), &[], false);
    }

    #[test]
    fn archives_of_a_bundle() {
        #[track_caller]
        fn check(class_path: &str, expect: &[&str], is_whole: bool) {
            let mut left_out = LeftOut::default();
            let text = format!("Bundle-ClassPath: {class_path}\n");
            let found = Manifest::parse(text.as_bytes(), &mut left_out).class_path_archives;
            assert_eq!(
                (found, left_out.is_empty()),
                (expect.iter().map(|s| (*s).to_owned()).collect(), is_whole)
            );
        }
        check(".,a-1.jar, /lib/b.jar;x:=1,bin", &["a-1.jar", "lib/b.jar"], true);
        check(&"x.jar,".repeat(MAX_CLASS_PATH_ARCHIVES + 1), &["x.jar"; MAX_CLASS_PATH_ARCHIVES], false);
    }

    #[test]
    fn main_section_only() {
        let parse = |bytes: &[u8]| Manifest::parse(bytes, &mut LeftOut::default());
        let text = b"Manifest-Version: 1.0\r\nIMPLEMENTATION-Title: A long\r\n  title\r\nBundle-SymbolicName: org.x.y;sing\r\n leton:=true\r\nImplementation-Version: ${version}\r\nBundle-Version: 1.2\r\n\r\nName: a/B.class\r\nBundle-Version: 9\r\n";
        let found = parse(text);
        assert_eq!(found.implementation_title, "A long title");
        assert_eq!(found.bundle_symbolic_name, "org.x.y");
        assert_eq!(found.version(), "1.2");
        assert_eq!(parse(b""), Manifest::default());
        assert_eq!(parse(b"\nMain-Class: a.B").main_class, "a.B");
        assert_eq!(parse(b"Main-Class: a\x01B\n").main_class, "");
        assert_eq!(parse(&[b"Main-Class: ".as_slice(), &[b'x'; 9000]].concat()).main_class, "");
    }
}
