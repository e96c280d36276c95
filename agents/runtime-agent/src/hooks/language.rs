//! The languages that have a hook: how their interpreters are known, how the hook gets into them, and why it may not.
//! Pure. It must never take an interpreter that loads modules for one that does not.

use plimsoll_schemas::words::probe;

use super::php_programs::{self, is_php, is_php_server};

/// A language with a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    Python,
    Node,
    Ruby,
    Php,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Python, Self::Node, Self::Ruby, Self::Php];

    /// First letter of its hook's reports, and its byte in the file of losses.
    pub fn letter(self) -> u8 {
        match self {
            Self::Python => b'P',
            Self::Node => b'N',
            Self::Ruby => b'R',
            Self::Php => b'H',
        }
    }

    /// The language whose hook writes this letter.
    pub fn of_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.letter() == letter)
    }

    /// The probe that its hook is.
    pub fn probe(self) -> &'static str {
        match self {
            Self::Python => probe::PYTHON_IMPORT,
            Self::Node => probe::NODE_MODULE,
            Self::Ruby => probe::RUBY_FEATURE,
            Self::Php => probe::PHP_INCLUDE,
        }
    }

    /// What runs it, for people.
    pub fn interpreter(self) -> &'static str {
        match self {
            Self::Python => "Python interpreter",
            Self::Node => "Node.js",
            Self::Ruby => "Ruby interpreter",
            Self::Php => "PHP",
        }
    }

    /// Its hook, for people.
    pub fn hook(self) -> &'static str {
        match self {
            Self::Python => "import hook",
            Self::Node => "module hook",
            Self::Ruby => "feature hook",
            Self::Php => "include hook",
        }
    }

    /// Purl type of the packages that its programs use.
    pub fn ecosystem(self) -> &'static str {
        match self {
            Self::Python => "pypi",
            Self::Node => "npm",
            Self::Ruby => "gem",
            Self::Php => "composer",
        }
    }

    /// The variable that carries the hook.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Python => "PYTHONPATH",
            Self::Node => "NODE_OPTIONS",
            Self::Ruby => "RUBYOPT",
            Self::Php => "PHP_INI_SCAN_DIR",
        }
    }

    /// The language whose interpreter a program is, by its name. audit.c knows the same beginnings.
    pub fn of_program(program: &[u8]) -> Option<Self> {
        let name = base_name(program);
        if name.starts_with(b"python") || name.starts_with(b"pypy") || name.starts_with(b"graalpy") {
            return Some(Self::Python);
        }
        let end = name.iter().rposition(|byte| !byte.is_ascii_digit() && !b".-".contains(byte));
        match &name[..end.map_or(0, |end| end + 1)] {
            b"node" | b"nodejs" | b"bun" | b"bun.exe" | b"deno" => Some(Self::Node),
            b"ruby" | b"ruby.ruby" => Some(Self::Ruby),
            php if is_php(php) => Some(Self::Php),
            _ => None,
        }
    }

    /// The language whose interpreter a shared object is, to be carried by other programs; not Python's stable ABI
    /// libpython3.so.
    pub fn of_library(object: &[u8]) -> Option<Self> {
        let name = base_name(object);
        let begins = |(beginning, _): &&(&str, Self)| name.starts_with(beginning.as_bytes());
        LIBRARIES.iter().find(begins).filter(|_| name != b"libpython3.so").map(|(_, language)| *language)
    }

    /// Why an interpreter with these arguments may stay without a hook; `None` if nothing is to be expected of it: it
    /// loads no modules at all, or tells of itself only with its first request. `arguments` are separated by NUL, and
    /// may be cut.
    pub fn expects(self, program: &[u8], arguments: &[u8]) -> Option<String> {
        let words = words_of(arguments);
        let name = base_name(program);
        let reason = match self {
            Self::Python if name.starts_with(b"python2") => Some("is Python 2, which has no import hook"),
            Self::Python => python(&words)?,
            Self::Node if name.starts_with(b"bun") => Some("is Bun, which takes no hook of Node.js"),
            Self::Node if name.starts_with(b"deno") => Some("is Deno, which takes no hook of Node.js"),
            Self::Node => node(&words)?,
            Self::Ruby => ruby(&words)?,
            // What they run is known with their first request.
            Self::Php if is_php_server(name) => return None,
            Self::Php => php_programs::expected(&words)?,
        };
        Some(reason.map_or_else(
            || {
                format!(
                    "took no {}: {} was not passed on to it, or it ended before it was ready",
                    self.hook(),
                    self.variable()
                )
            },
            str::to_owned,
        ))
    }

    /// Why a program that runs code of this language can leave the hook out of a part of it, and nobody sees that; `None`
    /// if its hellos tell of all.
    pub fn unseen_by_hook(self, program: &[u8], arguments: &[u8]) -> Option<&'static str> {
        match self {
            Self::Php => php_programs::unseen_by_hook(base_name(program), &words_of(arguments)),
            Self::Python | Self::Node | Self::Ruby => None,
        }
    }
}

/// Beginnings of the names of interpreters that are libraries. The eBPF programs have the same list (`embed`).
pub const LIBRARIES: &[(&str, Language)] = &[
    ("libpython", Language::Python),
    ("libpypy", Language::Python),
    ("libnode.so", Language::Node),
    ("libruby", Language::Ruby),
    ("libphp", Language::Php),
    ("mod_php", Language::Php),
];

/// Words that NUL ends, without the program's own.
fn words_of(arguments: &[u8]) -> Vec<&[u8]> {
    arguments.split(|byte| *byte == 0).skip(1).collect()
}

/// The last component of a path.
pub fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// `None`: loads nothing. `Some(None)`: the hook is expected. Else why it stays out.
pub(super) type Expected = Option<Option<&'static str>>;

const HOOKED: Expected = Some(None);

fn python(words: &[&[u8]]) -> Expected {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { break };
        match letters {
            b"-version" | b"-help" | b"-help-all" | b"-help-env" | b"-help-xoptions" => return None,
            b"-check-hash-based-pycs" => {
                words.next();
                continue;
            }
            _ => {}
        }
        for (index, letter) in letters.iter().enumerate() {
            match letter {
                b'I' => {
                    let reason = "was started with -I, which leaves PYTHONPATH and so the import hook out";
                    return Some(Some(reason));
                }
                b'E' => {
                    let reason = "was started with -E, which leaves PYTHONPATH and so the import hook out";
                    return Some(Some(reason));
                }
                b'S' => return Some(Some("was started with -S, which leaves the import hook out")),
                b'V' | b'h' | b'?' => return None,
                // What follows is the program's.
                b'c' | b'm' => return HOOKED,
                b'W' | b'X' => {
                    if index + 1 == letters.len() {
                        words.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    HOOKED
}

fn node(words: &[&[u8]]) -> Expected {
    const SILENT: [&[u8]; 7] =
        [b"-v", b"--version", b"-h", b"--help", b"--v8-options", b"-c", b"--completion-bash"];
    let options = || words.iter().take_while(|word| word.starts_with(b"-"));
    if options().any(|word| SILENT.contains(word) || *word == b"--check") {
        return None;
    }
    // The audit library looks for them among all words, too.
    if words.iter().any(|word| forbids_node_hook(word)) {
        return Some(Some(
            "was started with --permission or a configuration file, with which the module hook would change what it does; it \
             was left out",
        ));
    }
    HOOKED
}

/// Whether a word of Node.js asks for its permission model, which would not let it read the hook, or for a file of options,
/// which any NODE_OPTIONS displaces; the audit library has the same list.
pub(super) fn forbids_node_hook(word: &[u8]) -> bool {
    NODE_FORBIDS.iter().any(|begin| word.starts_with(begin.as_bytes()))
}

const NODE_FORBIDS: [&str; 4] = [
    "--permission",
    "--experimental-permission",
    "--experimental-config-file",
    "--experimental-default-config-file",
];

fn ruby(words: &[&[u8]]) -> Expected {
    let mut options = words.iter().take_while(|word| word.starts_with(b"-"));
    match options.find_map(|word| match *word {
        b"--version" | b"-h" | b"--help" | b"--copyright" => Some(None),
        b"-v" if words.len() == 1 => Some(None),
        word if word.starts_with(b"--disable") => {
            let what = &word[b"--disable".len()..];
            let has = |name: &[u8]| what.windows(name.len()).any(|window| window == name);
            (has(b"rubyopt") || has(b"all"))
                .then_some(Some("was started without RUBYOPT, which carries the feature hook"))
        }
        _ => None,
    }) {
        Some(None) => None,
        Some(Some(reason)) => Some(Some(reason)),
        None => HOOKED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_library_leaves_the_hook_out_for_the_same_words() {
        let audit = include_str!("../../../audit/src/node_options.h");
        let list = audit.split("words[4][40]").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
        let words: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(words, NODE_FORBIDS);
    }

    #[test]
    fn arguments_tell_what_to_expect() {
        use Language::{Node, Php, Python, Ruby};
        let cases: [(Language, &str, Option<&str>); 46] = [
            (Python, "python", Some("took no")),
            (Python, "python app.py -I", Some("took no")),
            (Python, "python -I app.py", Some("-I")),
            (Python, "python -bIc pass", Some("-I")),
            (Python, "python -E -m x", Some("-E")),
            (Python, "python -S", Some("-S")),
            (Python, "python -c -S", Some("took no")),
            (Python, "python -cS", Some("took no")),
            (Python, "python -m x -I", Some("took no")),
            (Python, "python -W ignore -I", Some("-I")),
            (Python, "python -Wignore:S -c x", Some("took no")),
            (Python, "python -X dev -S", Some("-S")),
            (Python, "python --check-hash-based-pycs never -E", Some("-E")),
            (Python, "python -V", None),
            (Python, "python -VV", None),
            (Python, "python --version", None),
            (Python, "python -h", None),
            (Python, "python - -I", Some("took no")),
            (Python, "", Some("took no")),
            (Node, "node app.js -v", Some("NODE_OPTIONS")),
            (Node, "node", Some("took no module hook")),
            (Node, "node -v", None),
            (Node, "node --check app.js", None),
            (Node, "node --permission --allow-fs-read=* app.js", Some("--permission")),
            (Node, "node --experimental-permission app.js", Some("--permission")),
            (Ruby, "ruby app.rb", Some("RUBYOPT")),
            (Ruby, "ruby --version", None),
            (Ruby, "ruby -v", None),
            (Ruby, "ruby -v app.rb", Some("took no")),
            (Ruby, "ruby --disable=gems app.rb", Some("took no")),
            (Ruby, "ruby --disable=gems,rubyopt app.rb", Some("without RUBYOPT")),
            (Ruby, "ruby --disable-all app.rb", Some("without RUBYOPT")),
            (Php, "php app.php -n", Some("PHP_INI_SCAN_DIR")),
            (Php, "php -n app.php", Some("-n")),
            (Php, "php -d x=1 -n app.php", Some("-n")),
            (Php, "php -d auto_prepend_file=x app.php", Some("auto_prepend_file")),
            (Php, "php -d auto_prepend_file=x -d y=1 app.php", Some("auto_prepend_file")),
            (Php, "php -r code", Some("command line")),
            (Php, "php -v", None),
            (Php, "php -l app.php", None),
            (Php, "php -S 127.0.0.1:80", None),
            (Php, "php -d x=1 -S 127.0.0.1:80", None),
            (Php, "php -n -S 127.0.0.1:80", Some("-n")),
            (Php, "php -S 127.0.0.1:80 -d auto_prepend_file=x", Some("auto_prepend_file")),
            (Php, "php -S 127.0.0.1:80 -t public router.php -n", None),
            (Php, "php --define auto_prepend_file=x app.php", Some("auto_prepend_file")),
        ];
        for (language, words, expected) in cases {
            let arguments = words.replace(' ', "\0");
            let reason = language.expects(b"/usr/bin/x", arguments.as_bytes());
            match (reason, expected) {
                (Some(reason), Some(expected)) => assert!(reason.contains(expected), "{words}: {reason}"),
                (reason, expected) => assert_eq!(reason.as_deref(), expected, "{words}"),
            }
        }
        assert!(Python.expects(b"/usr/bin/python2.7", b"python\0-V").is_some());
        assert!(Node.expects(b"/usr/bin/bun", b"bun\0x.js").is_some_and(|reason| reason.contains("Bun")));
        assert!(Node.expects(b"/usr/bin/deno", b"deno\0x.js").is_some_and(|reason| reason.contains("Deno")));
        assert_eq!(Php.expects(b"/usr/sbin/php-fpm8.2", b"php-fpm8.2\0-F"), None);
        assert_eq!(Php.expects(b"/usr/bin/lsphp82", b""), None);
        assert!(Php.expects(b"/usr/bin/swoole-cli", b"swoole-cli\0-n\0x.php").is_some());
    }

    #[test]
    fn servers_of_php_can_leave_the_hook_out() {
        for (program, arguments, expected) in [
            ("/usr/sbin/php-fpm8.2", "php-fpm8.2 -F", true),
            ("/usr/sbin/php-fpm8.2", "php-fpm8.2 -t", false),
            ("/usr/sbin/php-fpm8.2", "php-fpm8.2 -v", false),
            ("/usr/bin/php-cgi", "php-cgi", true),
            ("/usr/bin/frankenphp", "frankenphp run", true),
            ("/usr/sbin/apache2", "apache2 -t", true),
            ("/usr/bin/php8.2", "php8.2 -S 127.0.0.1:80", false),
            ("/usr/bin/php8.2", "php8.2 -S 127.0.0.1:80 -t public", false),
            ("/usr/bin/php8.2", "php8.2 -S127.0.0.1:80 -t public vendor/server.php", true),
            ("/usr/bin/php8.2", "php8.2 app.php -S 127.0.0.1:80", false),
            ("/usr/bin/swoole-cli", "swoole-cli server.php", false),
        ] {
            let found =
                Language::Php.unseen_by_hook(program.as_bytes(), arguments.replace(' ', "\0").as_bytes());
            assert_eq!(found.is_some(), expected, "{program} {arguments}");
        }
        assert_eq!(Language::Ruby.unseen_by_hook(b"/usr/bin/ruby", b"ruby"), None);
    }

    #[test]
    fn names_of_interpreters() {
        use Language::{Node, Php, Python, Ruby};
        // No interpreters, but their words tell what is used (`sweep`).
        const TOOLS: [&str; 5] = ["java", "uv", "npm", "pnpm", "yarn"];
        let audit = include_str!("../../../audit/src/audit.c");
        let table = audit.split("char names[").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
        let beginnings: Vec<&[u8]> = table.split('"').skip(1).step_by(2).map(str::as_bytes).collect();
        let cases = [
            ("/usr/bin/python3.11", Some(Python)),
            ("/opt/pypy3", Some(Python)),
            ("/opt/graalpy/bin/graalpy", Some(Python)),
            ("python", Some(Python)),
            ("/opt/python/run", None),
            ("/usr/bin/bpython", None),
            ("/usr/bin/node", Some(Node)),
            ("/usr/bin/node-18", Some(Node)),
            ("/usr/bin/node_exporter", None),
            ("/opt/node_modules/bun/bin/bun.exe", Some(Node)),
            ("/usr/bin/deno", Some(Node)),
            ("/usr/bin/ruby3.1", Some(Ruby)),
            ("/usr/bin/ruby.ruby2.7", Some(Ruby)),
            ("/usr/bin/rubocop", None),
            ("/usr/bin/php8.2", Some(Php)),
            ("/usr/bin/php82-cgi", Some(Php)),
            ("/usr/bin/lsphp99", Some(Php)),
            ("/usr/bin/php-config8.2", None),
            ("/usr/sbin/php-fpm8.2", Some(Php)),
            ("/usr/local/lsws/lsphp82/bin/lsphp", Some(Php)),
            ("/usr/bin/lsphp82", Some(Php)),
            ("/usr/bin/zts-php", Some(Php)),
            ("/usr/bin/php-zts", Some(Php)),
            ("/usr/bin/swoole-cli", Some(Php)),
            ("/usr/bin/frankenphp", Some(Php)),
            ("/usr/bin/phpize", None),
            ("/usr/bin/3", None),
        ];
        let mut told: Vec<&[u8]> = TOOLS.map(str::as_bytes).to_vec();
        told.extend(crate::sweep::LINKER_BEGINNINGS.iter().map(|name| name.as_bytes()));
        for (program, expected) in cases {
            assert_eq!(Language::of_program(program.as_bytes()), expected, "{program}");
            if expected.is_some() {
                let name = base_name(program.as_bytes());
                assert!(beginnings.iter().any(|known| name.starts_with(known)), "audit.c: {program}");
                told.push(name);
            }
        }
        for known in beginnings {
            let name = String::from_utf8_lossy(known);
            assert!(told.iter().any(|told| told.starts_with(known)), "audit.c alone knows {name}");
        }
        for (object, expected) in [
            ("/usr/lib/libpython3.11.so.1.0", Some(Python)),
            ("/usr/lib/libpython3.so", None),
            ("/usr/lib/libpypy3.9-c.so", Some(Python)),
            ("/usr/lib/libnode.so.108", Some(Node)),
            ("/usr/lib/libruby-3.1.so.3.1", Some(Ruby)),
            ("/usr/lib/apache2/modules/libphp8.2.so", Some(Php)),
            // Alpine's and openSUSE's.
            ("/usr/lib/apache2/mod_php82.so", Some(Php)),
            ("/usr/lib/libc.so.6", None),
        ] {
            assert_eq!(Language::of_library(object.as_bytes()), expected, "{object}");
        }
        for language in Language::ALL {
            assert_eq!(Language::of_letter(language.letter()), Some(language));
        }
    }
}
