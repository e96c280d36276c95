//! Programs of PHP: which they are, whichever version stands in their names, and what their options say of the include hook.
//! Pure. It must never take one that can leave the hook out for one whose requests all say hello.

use super::language::{Expected, base_name};

/// Options with which a program of PHP only tells something of itself.
const TELLING: &[&[u8]] = &[b"-v", b"--version", b"-i", b"--info", b"-m", b"--modules", b"-h", b"--help"];
/// Options with which FPM only reads its settings.
const TESTING: &[&[u8]] = &[b"-t", b"-tt", b"--test"];

/// Programs that run one script of PHP, without their versions.
const COMMANDS: &[&[u8]] = &[b"php", b"php-cli", b"phpdbg", b"php-zts", b"zts-php", b"swoole-cli"];

/// Programs that serve requests with PHP, without their versions.
const SERVERS: &[&[u8]] = &[b"php-fpm", b"php-cgi", b"lsphp", b"frankenphp"];

/// The name of a program of PHP without its version, wherever that stands: php8.2, php-fpm82, php8.2-cgi, lsphp82.
fn without_version(name: &[u8]) -> Vec<u8> {
    let mut rest: Vec<u8> =
        name.iter().copied().filter(|byte| !byte.is_ascii_digit() && *byte != b'.').collect();
    while rest.last() == Some(&b'-') {
        rest.pop();
    }
    rest
}

/// Whether a program of this name is PHP.
pub fn is_php(name: &[u8]) -> bool {
    COMMANDS.contains(&without_version(name).as_slice()) || is_php_server(name)
}

/// Whether a program of this name serves PHP's requests.
pub fn is_php_server(name: &[u8]) -> bool {
    SERVERS.contains(&without_version(name).as_slice())
}

/// Whether a program keeps PHP's compiled scripts beyond one of their runs (OPcache).
pub fn keeps_php_scripts(program: &[u8]) -> bool {
    let name = base_name(program);
    is_php_server(name) || name == b"swoole-cli"
}

/// Why a program of this name, or one that carries PHP as a library, can leave the hook out of a part of what it runs, and
/// nobody sees that.
pub(super) fn unseen_by_hook(name: &[u8], words: &[&[u8]]) -> Option<&'static str> {
    if is_php(name) && !is_php_server(name) {
        return options_of(words).is_some_and(|options| options.serves && options.script).then_some(
            "serves requests by a router script, in front of which PHP runs no auto_prepend_file, and so no include hook",
        );
    }
    // What carries PHP as a library is a web server.
    let tests = is_php(name) && name.windows(3).any(|part| part == b"fpm");
    let serves = !words.iter().any(|word| TELLING.contains(word) || tests && TESTING.contains(word));
    serves.then_some(
        "serves requests, and settings of a request, a directory or a pool (.user.ini, .htaccess, PHP_VALUE, \
         php_value) can replace the include hook without a trace",
    )
}

/// What is to be expected of a program that is no server.
pub(super) fn expected(words: &[&[u8]]) -> Expected {
    let options = options_of(words)?;
    // Its requests say hello, where nothing keeps them from that.
    if options.serves && options.without.is_none() { None } else { Some(options.without) }
}

/// What PHP's options say of its run.
struct Options {
    /// Why it goes without the include hook.
    without: Option<&'static str>,
    /// It is the built-in web server.
    serves: bool,
    /// A script stands behind its options.
    script: bool,
}

/// `None`: it runs nothing.
fn options_of(words: &[&[u8]]) -> Option<Options> {
    const UNSETTLED: &str = "was started with -n, which leaves the include hook out";
    const DISPLACED: &str = "has an auto_prepend_file on its command line, which replaces the include hook";
    const CODE: &str = "was started with code on its command line, which runs without the include hook";
    let (mut without, mut serves) = (None, false);
    let mut rest = words;
    while let [word, after @ ..] = rest
        && word.starts_with(b"-")
    {
        // Options that take the next word.
        let takes = matches!(*word, b"-d" | b"--define" | b"-c" | b"-t" | b"-z" | b"-S" | b"--server");
        let value = if takes { after.first().copied() } else { None };
        rest = after.get(usize::from(value.is_some())..).unwrap_or_default();
        match *word {
            word if TELLING.contains(&word) => return None,
            b"--ini" | b"-l" | b"--syntax-check" | b"-w" | b"-s" | b"--rf" | b"--rc" | b"--re" | b"--ri" => {
                return None;
            }
            [b'-', b'S', ..] | b"--server" => serves = true,
            b"-n" | b"--no-php-ini" => without = Some(UNSETTLED),
            b"-r" | b"--run" | b"-R" | b"-B" | b"-a" => {
                return Some(Options { without: Some(CODE), serves: false, script: false });
            }
            b"--" | b"-f" | b"--file" => break,
            _ => {
                let glued = word.strip_prefix(b"-d").or_else(|| word.strip_prefix(b"--define="));
                if value.or(glued).is_some_and(|setting| setting.starts_with(b"auto_prepend_file")) {
                    without = Some(DISPLACED);
                }
            }
        }
    }
    Some(Options { without, serves, script: rest.first().is_some_and(|script| !script.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_php() {
        for (program, expected) in [
            ("usr/sbin/php-fpm8.2", true),
            ("usr/local/lsws/lsphp82/bin/lsphp", true),
            ("usr/bin/lsphp82", true),
            ("usr/bin/swoole-cli", true),
            ("usr/bin/frankenphp", true),
            ("usr/bin/php8.2", false),
            ("usr/bin/php8.2-cgi", true),
            ("usr/sbin/php-fpm82", true),
        ] {
            assert_eq!(keeps_php_scripts(program.as_bytes()), expected, "{program}");
        }
    }
}
