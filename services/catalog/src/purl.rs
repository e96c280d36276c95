//! Writes package URLs (purl specification, ECMA-427): `pkg:type/namespace/name@version?qualifiers`.
//! Never parses one, and never guesses a part that is not known: it is left out.

use std::fmt::Write;

/// A package URL under construction; [`Purl::build`] writes its canonical form.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purl<'a> {
    pub package_type: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub version: &'a str,
    /// Empty values are left out; written in order of their keys.
    pub qualifiers: Vec<(&'a str, String)>,
}

impl Purl<'_> {
    pub fn build(mut self) -> String {
        let mut out = format!("pkg:{}/", self.package_type);
        for part in self.namespace.split('/').filter(|part| !part.is_empty()) {
            encode(&mut out, part);
            out.push('/');
        }
        encode(&mut out, self.name);
        if !self.version.is_empty() {
            out.push('@');
            encode(&mut out, self.version);
        }
        self.qualifiers.retain(|(_, value)| !value.is_empty());
        self.qualifiers.sort();
        for (position, (key, value)) in self.qualifiers.iter().enumerate() {
            out.push(if position == 0 { '?' } else { '&' });
            out.push_str(key);
            out.push('=');
            encode(&mut out, value);
        }
        out
    }
}

/// Percent-encodes everything but letters, digits, `.-_~` and the colon, which the specification keeps bare.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, version: &str, qualifiers: &[(&'static str, &str)], expect: &str) {
        let qualifiers = qualifiers.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let purl = Purl { package_type: "deb", namespace: "debian", name, version, qualifiers };
        assert_eq!(purl.build(), expect);
    }

    #[test]
    fn canonical_form() {
        check(
            "libc6",
            "2.36-9+deb12u4",
            &[("arch", "amd64")],
            "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64",
        );
        check("vim", "2:9.0~1", &[("distro", ""), ("arch", "all")], "pkg:deb/debian/vim@2:9.0~1?arch=all");
        check(
            "libstdc++6",
            "12",
            &[("upstream", "gcc-12@12.2.0-14"), ("arch", "amd64")],
            "pkg:deb/debian/libstdc%2B%2B6@12?arch=amd64&upstream=gcc-12%4012.2.0-14",
        );
        check("é /", "", &[], "pkg:deb/debian/%C3%A9%20%2F");
    }
}
