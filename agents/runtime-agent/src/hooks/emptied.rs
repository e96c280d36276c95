//! Programs that start others with an environment of their own, without the hooks' variables. Pure.
//! It must never take a program for one that keeps its environment where it may not: what it starts can end unseen.

/// Why nothing that such a program started can be called unused.
pub const REASON: &str =
    "starts others without the environment of the hooks, and those that end soon are not seen";

/// Whether a program, by its arguments from the program's own name on, takes the hooks' variables from those it starts.
pub fn empties_environment(arguments: &[String]) -> bool {
    let Some((program, arguments)) = arguments.split_first() else { return false };
    // The audit library tells the arguments of these alone, and of interpreters.
    match program.rsplit('/').next().unwrap_or(program) {
        "busybox" => empties_environment(arguments),
        // All in one program, run by a name of its own or by an option; behind that of a script stands the name.
        "coreutils" => arguments.split_first().is_some_and(|(option, words)| {
            option.starts_with("--coreutils-prog") && option.ends_with("=env") && {
                let words = words.strip_prefix(&["/usr/bin/env".to_owned()]).unwrap_or(words);
                is_emptying_env(words.iter().map(String::as_str))
            }
        }),
        "sudo" | "doas" | "pkexec" => true,
        "su" | "runuser" => {
            // Long options may be shortened.
            arguments.iter().any(|word| word == "-" || word.starts_with("--l") || has_flag(word, 'l'))
        }
        "setpriv" => arguments.iter().any(|word| word.starts_with("--res")),
        "env" => is_emptying_env(arguments.iter().map(String::as_str)),
        _ => false,
    }
}

/// By the options of GNU coreutils and busybox.
fn is_emptying_env<'a>(mut words: impl Iterator<Item = &'a str>) -> bool {
    while let Some(word) = words.next() {
        let (option, value) = word.split_once('=').unwrap_or((word, ""));
        // Long options may be shortened.
        let is_long = |begin: &str| option.starts_with(begin);
        if word == "-" || is_long("--i") || has_flag(word, 'i') || option == "LD_AUDIT" {
            return true;
        }
        // Of an option that stands alone, the next word.
        let mut argument = |letter| {
            let own = if word.starts_with("--") {
                value
            } else {
                word.split_once(letter).map_or("", |(_, own)| own)
            };
            if own.is_empty() { words.next().unwrap_or_default() } else { own }
        };
        if is_long("--s") || has_flag(word, 'S') {
            // All that follows is one text, options first.
            return is_emptying_env(argument('S').split_whitespace());
        } else if is_long("--u") || has_flag(word, 'u') {
            if argument('u') == "LD_AUDIT" {
                return true;
            }
        } else if is_long("--c") || has_flag(word, 'C') {
            argument('C');
        } else if is_long("--a") || has_flag(word, 'a') {
            argument('a');
        } else if !word.starts_with('-') && !word.contains('=') {
            return false;
        }
    }
    false
}

/// Whether a letter stands among the short options of one word, before one that takes the rest of the word.
fn has_flag(word: &str, flag: char) -> bool {
    let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else { return false };
    let end = letters.find(['a', 'u', 'C', 'S', 'c', 's', 'g', 'G']).map_or(letters.len(), |at| at + 1);
    letters[..end].contains(flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_library_tells_their_arguments() {
        let source = include_str!("../../../audit/src/audit.c");
        let (_, list) = source.split_once("may_empty_environment").unwrap();
        let (list, _) = list.split_once(';').unwrap();
        // `su` begins `sudo`, too.
        for name in ["env", "su", "runuser", "doas", "pkexec", "busybox", "setpriv", "coreuti"] {
            assert!(list.contains(&format!("\"{name}\"")), "{name}: {list}");
        }
    }

    #[test]
    fn commands_that_empty_their_environment() {
        for (command, expected) in [
            ("/usr/bin/env -i ./app", true),
            ("env - A=b ./app", true),
            ("env A=b -i ./app", true),
            ("env -vi ./app", true),
            ("env --ignore-environment ./app", true),
            ("env -u LD_AUDIT ./app", true),
            ("env -uLD_AUDIT ./app", true),
            ("env --unset=LD_AUDIT ./app", true),
            ("env -vu LD_AUDIT ./app", true),
            ("env --uns LD_AUDIT ./app", true),
            ("env --ign ./app", true),
            ("env LD_AUDIT= ./app", true),
            ("env -S -i ./app", true),
            ("env --split-string=-i Some", true),
            ("env --split-string -i", true),
            ("env -S-i", true),
            ("env -iS ./app", true),
            ("env python3 -i", false),
            ("env -u DISPLAY ./app -i", false),
            ("env -C /srv ./app -i", false),
            ("env A=b ./app", false),
            ("env A= ./app -i", false),
            ("env --unset=DISPLAY -- ./app -i", false),
            ("env -S python3 -i", false),
            ("env", false),
            ("env -a name -i ./app", true),
            ("env --argv0=name A=b ./app -i", false),
            ("coreutils --coreutils-prog=env -i ./app", true),
            ("coreutils --coreutils-prog-shebang=env /usr/bin/env -i ./app", true),
            ("coreutils --coreutils-prog=ls -i", false),
            ("setpriv --reset-env --reuid 1 ./app", true),
            ("setpriv --reuid 1 ./app", false),
            ("su --log app", true),
            ("su - app -c node", true),
            ("su -l app", true),
            ("su -pl app", true),
            ("su -s /bin/sh app -c node", false),
            ("runuser --login app", true),
            ("runuser -u app node", false),
            ("/usr/bin/sudo -E node", true),
            ("/bin/busybox env -i ./app", true),
            ("busybox ls -i", false),
            ("sudoku -i", false),
            ("node -i", false),
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(empties_environment(&words), expected, "{command}");
        }
        assert!(!empties_environment(&[]));
    }
}
