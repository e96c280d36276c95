//! The variables that carry the hooks into a process tree, beside what the application set in them.
//! It must never overwrite a setting of the application, or set a word that an interpreter would stumble over.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use memchr::memmem::find as memmem;

use super::language::{Language, forbids_node_hook};
use super::{other_root, php_settings};

/// Once it audits, glibc's linker sets the room for thread-local variables before it knows the program's libraries: 512 bytes
/// beside its own, and jemalloc alone wants 2,632, without which the program does not start. In bytes; each thread's stack
/// bears it, and the least one (16 KiB) still has room.
const STATIC_TLS: &str = "glibc.rtld.optional_static_tls=";
const STATIC_TLS_BYTES: &str = "4096";

/// Where a tree's processes find the hooks.
#[derive(Clone, Debug, Default)]
pub struct HookEnvironment {
    /// The word for LD_AUDIT; `None` if the linker here does not take it.
    pub(super) audit: Option<OsString>,
    python: Option<OsString>,
    node: Option<OsString>,
    ruby: Option<OsString>,
    php: Option<OsString>,
}

impl HookEnvironment {
    /// The words for the hooks of all languages below `inner`; `absent` hears which cannot be at work here, and why.
    pub(super) fn new(inner: &Path, mut absent: impl FnMut(Language, String)) -> Self {
        let bytes = inner.as_os_str().as_bytes();
        let mut speakable = |language, bad: &[u8]| {
            let ok = !bytes.iter().any(|byte| bad.contains(byte));
            if !ok {
                let reason = format!(
                    "{} has a character that {} cannot have: choose another directory with TMPDIR",
                    inner.display(),
                    Language::variable(language)
                );
                absent(language, reason);
            }
            ok
        };
        let word = |before: &str, path: &str, after: &str| {
            let mut word = OsString::from(before);
            word.push(inner.join(path));
            word.push(after);
            word
        };
        Self {
            audit: None,
            python: Some(word("", "python", "")),
            node: speakable(Language::Node, b"\"\\")
                .then(|| word("--require \"", "node/module_hook.cjs", "\"")),
            ruby: speakable(Language::Ruby, b" \t\r\n\x0b\x0c")
                .then(|| word("-r", "ruby/feature_hook.rb", "")),
            php: speakable(Language::Php, b"\"\\$\n").then(|| word("", "php", "")),
        }
    }

    /// Variables to set; `existing` gives what they would be without hooks. That is kept: auditors and options before
    /// ours, and the application's PYTHONPATH behind ours, which leaves the module path as soon as it is loaded.
    pub fn variables(&self, existing: impl Fn(&str) -> Option<OsString>) -> Vec<(&'static str, OsString)> {
        let given = |name: &str| existing(name).filter(|given| !given.is_empty());
        let appended = |name: &'static str, separator: &str, word: &Option<OsString>| {
            word.as_ref().map(|word| (name, joined(given(name).as_deref(), separator, Some(word))))
        };
        let python = self
            .python
            .as_ref()
            .map(|word| ("PYTHONPATH", joined(Some(word), ":", given("PYTHONPATH").as_deref())));
        // Known from glibc 2.32 on; others leave alone what they do not know. It is no matter of files: it may stay where these
        // are out of sight.
        let tunables = given("GLIBC_TUNABLES");
        let is_set =
            tunables.as_deref().is_some_and(|set| memmem(set.as_bytes(), STATIC_TLS.as_bytes()).is_some());
        let room: OsString = [STATIC_TLS, STATIC_TLS_BYTES].concat().into();
        let tunables = (self.audit.is_some() && !is_set)
            .then(|| ("GLIBC_TUNABLES", joined(tunables.as_deref(), ":", Some(&room))));
        // Not set means the directory that PHP was built with, as an empty part does; set and empty means none.
        let php = self.php.as_ref().map(|word| {
            let name = "PHP_INI_SCAN_DIR";
            let mut list = existing(name).unwrap_or_else(|| ":".into());
            if !list.is_empty() && list != ":" {
                list.push(":");
            }
            list.push(word);
            (name, list)
        });
        [
            appended("LD_AUDIT", ":", &self.audit),
            tunables,
            python,
            appended("NODE_OPTIONS", " ", &self.node),
            appended("RUBYOPT", " ", &self.ruby),
            php,
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Adds the hooks to a command's environment. Those stay out that would keep the command from starting; all, if it
    /// enters another root directory, which then is the reason that is given.
    pub fn apply(&self, command: &mut Command) -> Option<String> {
        if let Some(entered) = other_root::entered(command).filter(|entered| !entered.keeps_root) {
            return Some(other_root::reason(&entered));
        }
        let value = |name: &str| {
            let set = command.get_envs().find(|(key, _)| *key == OsStr::new(name));
            set.map_or_else(|| std::env::var_os(name), |(_, value)| value.map(OsStr::to_os_string))
        };
        let mut fitting = self.clone();
        let options = value("NODE_OPTIONS").unwrap_or_default();
        let options = options.as_bytes().split(u8::is_ascii_whitespace);
        if command.get_args().map(OsStr::as_bytes).chain(options).any(forbids_node_hook) {
            fitting.node = None;
        }
        if php_settings::what_forbids_the_hook(
            value("PHPRC").as_deref(),
            value("PHP_INI_SCAN_DIR").as_deref(),
        )
        .is_some()
        {
            fitting.php = None;
        }
        let variables = fitting.variables(value);
        command.envs(variables);
        None
    }
}

fn joined(first: Option<&OsStr>, separator: &str, second: Option<&OsStr>) -> OsString {
    let mut list = OsString::new();
    for part in first.into_iter().chain(second) {
        if !list.is_empty() {
            list.push(separator);
        }
        list.push(part);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(inner: &str) -> (HookEnvironment, Vec<Language>) {
        let mut absent = Vec::new();
        let made = HookEnvironment::new(Path::new(inner), |language, _| absent.push(language));
        (HookEnvironment { audit: Some("/h/a.so".into()), ..made }, absent)
    }

    #[test]
    fn keeps_what_the_application_set() {
        let (environment, absent) = environment("/h");
        assert_eq!(absent, []);
        let check = |given: Option<&str>, expected: [&str; 6]| {
            let variables = environment.variables(|_| given.map(OsString::from));
            let text: Vec<String> =
                variables.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
            assert_eq!(text, expected);
        };
        let unset = [
            "LD_AUDIT=/h/a.so",
            "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=4096",
            "PYTHONPATH=/h/python",
            "NODE_OPTIONS=--require \"/h/node/module_hook.cjs\"",
            "RUBYOPT=-r/h/ruby/feature_hook.rb",
            "PHP_INI_SCAN_DIR=:/h/php",
        ];
        check(None, unset);
        check(Some(""), [unset[0], unset[1], unset[2], unset[3], unset[4], "PHP_INI_SCAN_DIR=/h/php"]);
        let both = [
            "LD_AUDIT=/a:/b:/h/a.so",
            "GLIBC_TUNABLES=/a:/b:glibc.rtld.optional_static_tls=4096",
            "PYTHONPATH=/h/python:/a:/b",
            "NODE_OPTIONS=/a:/b --require \"/h/node/module_hook.cjs\"",
            "RUBYOPT=/a:/b -r/h/ruby/feature_hook.rb",
            "PHP_INI_SCAN_DIR=/a:/b:/h/php",
        ];
        check(Some("/a:/b"), both);
    }

    /// Else its linker would take the last of the two.
    #[test]
    fn the_applications_own_room_for_thread_local_variables_stays() {
        let (environment, _) = environment("/h");
        let set = |given: &str| {
            let given = Some(OsString::from(given));
            let variables = environment.variables(|name| given.clone().filter(|_| name == "GLIBC_TUNABLES"));
            variables.into_iter().any(|(name, _)| name == "GLIBC_TUNABLES")
        };
        assert!(
            set("glibc.malloc.check=3") && !set("glibc.malloc.check=3:glibc.rtld.optional_static_tls=9000")
        );
        // Without an auditor the linker knows the libraries before it sets the room.
        let without = HookEnvironment { audit: None, ..environment.clone() };
        assert!(without.variables(|_| None).iter().all(|(name, _)| *name != "GLIBC_TUNABLES"));
    }

    #[test]
    fn the_audit_library_knows_the_option_of_node() {
        let (environment, _) = environment("/h");
        let word = environment.node.unwrap().into_string().unwrap().replace('"', "\\\"");
        let (before, after) = word.split_once("/h").unwrap();
        let audit = include_str!("../../../audit/src/node_options.h");
        for (name, part) in [("OPTION_BEFORE", before), ("OPTION_AFTER", after)] {
            assert!(audit.contains(&format!("#define {name} \"{part}\"\n")), "{name} {part}");
        }
    }

    /// It takes them out where the files of hooks are not.
    #[test]
    fn the_audit_library_knows_every_word() {
        let table = include_str!("../../../audit/src/words.h");
        let (environment, _) = environment("/h");
        // That names no file.
        let words = environment.variables(|_| None).into_iter().filter(|(name, _)| *name != "GLIBC_TUNABLES");
        for (name, value) in words {
            let word = value.into_string().unwrap().replace('"', "\\\"");
            let (before, after) = match name {
                "LD_AUDIT" => ("", format!("/{}", plimsoll_audit::FILE_NAME)),
                _ => word.split_once("/h").map(|(before, after)| (before, after.to_owned())).unwrap(),
            };
            let separator = if before.starts_with('-') { ' ' } else { ':' };
            let before = before.trim_start_matches(':');
            let row = format!("{{ \"{name}=\", \"{before}\", \"{after}\", '{separator}', 1 }}");
            assert!(table.contains(&row), "{row}");
        }
        let java = plimsoll_jvmti::option(Path::new("/h/j.so"), Path::new("/h/reports")).unwrap();
        let (before, after) = (java.split_once("/h").unwrap().0, java.rsplit_once("/h").unwrap().1);
        let row = format!("{{ \"{}=\", \"{before}\", \"{after}\", ' ', 0 }}", plimsoll_jvmti::VARIABLE);
        assert!(table.contains(&row), "{row}");
        let mark = format!("#define DIRECTORY_MARK \"/{}\"\n", super::super::leftover::PREFIX);
        assert!(table.contains(&mark), "{mark}");
    }

    #[test]
    fn no_word_that_an_interpreter_would_not_read() {
        let (made, absent) = environment("/a b");
        assert_eq!(absent, [Language::Ruby]);
        let names: Vec<&str> = made.variables(|_| None).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["LD_AUDIT", "GLIBC_TUNABLES", "PYTHONPATH", "NODE_OPTIONS", "PHP_INI_SCAN_DIR"]);
        assert_eq!(environment("/a\"b").1, [Language::Node, Language::Php]);
    }

    /// PHP would end with a fatal error, and Node.js before the application begins.
    #[test]
    fn a_hook_that_could_not_be_opened_stays_out() {
        let (environment, _) = environment("/h");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("php.ini"), "open_basedir = /srv\n").unwrap();
        let confined = directory.path().to_str().unwrap();
        for (variable, value, word, without) in [
            ("PHPRC", "", "app", ""),
            ("PHPRC", confined, "app", "PHP_INI_SCAN_DIR"),
            ("PHP_INI_SCAN_DIR", confined, "app", "PHP_INI_SCAN_DIR"),
            ("NODE_OPTIONS", "--permission", "app", "NODE_OPTIONS"),
            ("PHPRC", "", "--permission", "NODE_OPTIONS"),
        ] {
            let mut command = Command::new("program");
            command.env_remove("PHPRC").env_remove("PHP_INI_SCAN_DIR").env_remove("NODE_OPTIONS");
            command.arg(word).env(variable, value);
            assert_eq!(environment.apply(&mut command), None);
            for name in ["LD_AUDIT", "PYTHONPATH", "NODE_OPTIONS", "RUBYOPT", "PHP_INI_SCAN_DIR"] {
                let set = command.get_envs().find_map(|(key, set)| set.filter(|_| key == name));
                let has_hook = set.is_some_and(|set| set.to_string_lossy().contains("/h/"));
                assert_eq!(has_hook, name != without, "{variable}={value} {word}: {name}");
            }
        }
    }

    #[test]
    fn nothing_where_the_command_enters_another_root() {
        let (environment, _) = environment("/h");
        for (program, arguments, expected) in [
            ("chroot", &["/srv", "node", "app.js"][..], 0),
            ("sh", &["-c", "cd /srv; chroot . ruby app.rb"], 0),
            ("unshare", &["--root", "/srv", "php", "app.php"], 0),
            ("unshare", &["-m", "node", "app.js"], 6),
        ] {
            let mut command = Command::new(program);
            command.args(arguments).env_remove("PHPRC").env_remove("PHP_INI_SCAN_DIR");
            let reason = environment.apply(&mut command);
            let set = command.get_envs().filter(|(_, value)| value.is_some()).count();
            assert_eq!((set, reason.is_some()), (expected, expected == 0), "{command:?}");
        }
    }

    #[test]
    fn what_would_not_start_is_left_alone() {
        let (environment, _) = environment("/h");
        for (arguments, options, expected) in [
            (&["app.js"][..], "", true),
            (&["--permission", "app.js"], "", false),
            (&["app.js"], "--no-warnings --experimental-permission", false),
            (&["--experimental-config-file=x.json", "app.js"], "", false),
        ] {
            let mut command = Command::new("node");
            command.args(arguments).env("NODE_OPTIONS", options);
            environment.apply(&mut command);
            let set = command.get_envs().any(|(name, value)| {
                name == "NODE_OPTIONS" && value.is_some_and(|value| value.to_string_lossy().contains("/h/"))
            });
            assert_eq!(set, expected, "{arguments:?} {options}");
        }
    }
}
