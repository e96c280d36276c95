//! Languages on a JVM: JRuby and Jython read the files of gems and Python packages by themselves.
//! It must never take a Java application for one of these by a word behind its own class or archive.

use super::base_name;
use crate::hooks::language::Language;
use crate::java::facts::split_options;

/// The language that a JVM runs by these arguments (without the program itself), and the arguments of that.
pub fn language_of(arguments: &[String]) -> Option<(Language, &[String])> {
    let (language, rest) = match split_options(arguments).1 {
        [option, archive, rest @ ..] if option == "-jar" => {
            let archive = base_name(archive.as_bytes());
            let language = match () {
                () if archive.starts_with("jruby") => Language::Ruby,
                () if archive.starts_with("jython") => Language::Python,
                () => return None,
            };
            (language, rest)
        }
        [main, rest @ ..] => match main.as_str() {
            "org.jruby.Main" | "org.jruby.main.Main" | "org.jruby.main.DripMain" => (Language::Ruby, rest),
            "org.python.util.jython" => (Language::Python, rest),
            _ => return None,
        },
        [] => return None,
    };
    Some((language, rest))
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
            ("--patch-module a=b.jar -cp x.jar org.jruby.Main app.rb", Some(Language::Ruby)),
            ("@options -p lib org.jruby.Main app.rb", Some(Language::Ruby)),
            ("-m app/com.example.App org.jruby.Main", None),
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
