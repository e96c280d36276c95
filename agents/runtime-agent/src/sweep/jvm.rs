//! Languages on a JVM: JRuby and Jython read the files of gems and Python packages by themselves.
//! It must never take a Java application for one of these by a word behind its own class or archive.

use super::base_name;
use crate::hooks::language::Language;

/// Options of a JVM that take the next word (docs.oracle.com, the java command).
const WITH_VALUE: &[&str] = &[
    "-cp",
    "-classpath",
    "--class-path",
    "-p",
    "--module-path",
    "--add-modules",
    "--add-opens",
    "--add-exports",
    "--add-reads",
    "--upgrade-module-path",
    "-m",
    "--module",
];

/// The language that a JVM runs by these arguments (without the program itself), and the arguments of that.
pub fn language_of(arguments: &[String]) -> Option<(Language, &[String])> {
    let mut at = 0;
    while let Some(word) = arguments.get(at).map(String::as_str) {
        let rest = arguments.get(at + 1..).unwrap_or_default();
        if word == "-jar" {
            let archive = base_name(rest.first()?.as_bytes());
            let language = match () {
                () if archive.starts_with("jruby") => Language::Ruby,
                () if archive.starts_with("jython") => Language::Python,
                () => return None,
            };
            return Some((language, &rest[1..]));
        }
        if word.starts_with('-') || word.starts_with('@') {
            at += if WITH_VALUE.contains(&word) { 2 } else { 1 };
            continue;
        }
        return match word {
            "org.jruby.Main" | "org.jruby.main.Main" | "org.jruby.main.DripMain" => {
                Some((Language::Ruby, rest))
            }
            "org.python.util.jython" => Some((Language::Python, rest)),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_on_a_jvm() {
        for (words, expected) in [
            ("-Xmx500m -cp /usr/share/jruby/lib/jruby.jar org.jruby.Main app.rb", Some(Language::Ruby)),
            ("-jar /opt/jruby-complete-9.4.jar app.rb", Some(Language::Ruby)),
            (
                "-classpath /x.jar:/y.jar -Dpython.home=/x org.python.util.jython app.py",
                Some(Language::Python),
            ),
            ("-jar jython-standalone-2.7.4.jar app.py", Some(Language::Python)),
            ("-jar app.jar org.jruby.Main", None),
            ("-cp x.jar com.example.App -jar jython.jar", None),
            ("-jar", None),
            ("-version", None),
        ] {
            let arguments: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(language_of(&arguments).map(|(language, _)| language), expected, "{words}");
        }
    }
}
