//! Command lines, and how the reads of what they start count.

use super::*;

#[test]
fn judges_command_lines() {
    use Reader::{Ignored, Installer, Java, Node, Php, Plain, Python, Ruby};
    let cases = [
        ("usr/bin/dpkg", "dpkg -i x.deb", Ignored),
        ("usr/lib/ld-linux-x86-64.so.2", "ld.so /usr/bin/python3.11 run.py", Python),
        ("usr/lib/ld-linux-x86-64.so.2", "ld.so --library-path /lib --argv0 x /usr/bin/node a.js", Node),
        ("usr/lib/ld-2.31.so", "ld.so --inhibit-cache /usr/bin/ruby a.rb", Ruby),
        ("lib/ld-musl-x86_64.so.1", "ld.so --library-path=/lib -- /usr/bin/php a.php", Php),
        ("lib64/ld64.so.2", "ld64.so.2 /usr/bin/python3 -m pip list", Installer),
        ("usr/lib/ld-linux-x86-64.so.2", "ld.so --list-tunables", Plain),
        ("usr/bin/ld.bfd", "ld.bfd python3 a.py", Plain),
        ("usr/bin/apt-get", "apt-get install -y curl", Ignored),
        ("usr/bin/dpkg-statoverride", "dpkg-statoverride --list", Ignored),
        ("usr/bin/rsync", "rsync -a / /backup", Ignored),
        ("usr/bin/bash", "bash -c pip", Plain),
        ("usr/sbin/nginx", "nginx -g daemon off;", Plain),
        ("usr/bin/python3.11", "python3 run.py", Python),
        ("usr/bin/python3.11", "python3 -u -W ignore run.py install", Python),
        ("usr/bin/python3.11", "python3", Python),
        ("usr/bin/python3.11", "python3 -c import(pip)", Python),
        ("usr/bin/python3.11", "python3 /venv/bin/pip install flask", Installer),
        ("usr/bin/python3.11", "python3 /venv/bin/pip3.11 list", Installer),
        ("usr/bin/python3.11", "python3 -m pip install flask", Installer),
        ("usr/bin/python3.11", "python3 -mpip list", Installer),
        ("usr/bin/python3.11", "python3 -Im pip list", Installer),
        ("usr/bin/python3.11", "python3 -m pip._internal list", Installer),
        ("usr/bin/python3.11", "python3 -m compileall -q .", Installer),
        ("usr/bin/python3.11", "python3 -m gunicorn app:app", Python),
        ("usr/bin/python3.11", "python3 -m venv /venv", Installer),
        ("usr/bin/python3.11", "python3 /usr/bin/py3compile -p x", Installer),
        ("usr/bin/python3.11", "python3 /venv/bin/pipenv run gunicorn", Python),
        ("usr/bin/python3.11", "python3 /venv/bin/poetry install", Installer),
        ("usr/bin/python3.11", "python3 /venv/bin/poetry run app", Python),
        ("usr/bin/python3.11", "python3 /venv/bin/gunicorn list", Python),
        ("opt/pypy/pypy3.10", "pypy3 app.py", Python),
        ("usr/bin/python-config", "python-config --libs", Plain),
        ("usr/libexec/platform-python3.6", "platform-python /usr/bin/dnf install x", Ignored),
        ("usr/bin/node", "node server.js", Node),
        ("usr/bin/node", "node", Node),
        ("usr/bin/nodejs", "nodejs --require ./npm server.js install", Node),
        ("usr/bin/node", "node -e require('npm')", Node),
        ("usr/bin/node", "node --check server.js", Installer),
        ("usr/bin/node", "node /usr/bin/npm-cli.js install", Installer),
        ("usr/bin/node", "node /usr/bin/npm ci --ignore-scripts", Installer),
        ("usr/bin/node", "node /usr/bin/npm ls", Installer),
        ("usr/bin/node", "node /usr/bin/npm-cli.js start", Node),
        ("usr/bin/node", "node /usr/bin/npm --silent run serve", Node),
        ("usr/bin/node", "node /usr/bin/npx cowsay install", Node),
        ("usr/bin/node", "node /usr/bin/npx-cli.js -y x", Node),
        ("usr/bin/node", "node --inspect /app/yarn.js add x", Installer),
        ("usr/bin/node", "node /usr/bin/yarn", Installer),
        ("usr/bin/node", "node .yarn/releases/yarn-4.1.0.cjs serve", Node),
        ("usr/bin/node", "node .yarn/releases/yarn-4.1.0.cjs install --immutable", Installer),
        ("usr/bin/node", "node /usr/bin/pnpm.cjs exec app", Node),
        ("usr/bin/node", "node /usr/bin/pnpm i", Installer),
        ("usr/bin/node", "node /usr/bin/corepack pnpm install", Installer),
        ("usr/bin/node", "node /usr/bin/corepack yarn start", Node),
        ("usr/bin/node", "node /usr/bin/corepack enable", Installer),
        ("usr/bin/node", "node node_modules/.bin/webpack --mode production", Ignored),
        ("usr/bin/node", "node node_modules/.bin/webpack serve", Node),
        ("usr/bin/node", "node node_modules/typescript/bin/tsc -p .", Ignored),
        ("usr/bin/node", "node node_modules/.bin/next build", Ignored),
        ("usr/bin/node", "node node_modules/.bin/next start", Node),
        ("usr/bin/node", "node node_modules/.bin/node-gyp rebuild", Installer),
        ("usr/bin/node", "node node_modules/.bin/next", Node),
        ("usr/bin/node", "node node_modules/.bin/vite build", Ignored),
        ("usr/bin/node", "node node_modules/.bin/pm2 start app.js", Node),
        ("usr/local/bin/node_exporter", "node_exporter", Plain),
        ("usr/bin/bun", "bun install", Installer),
        ("usr/bin/bun", "bun run server.ts", Node),
        ("usr/bin/bunx", "bunx install", Node),
        ("app/node_modules/bun/bin/bun.exe", "bun server.ts", Node),
        ("app/node_modules/bun/bin/bun.exe", "bun install", Installer),
        ("app/node_modules/bun/bin/bun.exe", "/app/bunx install", Node),
        ("usr/bin/deno", "deno cache x.ts", Installer),
        ("usr/bin/java", "java -jar app.jar", Java),
        ("usr/bin/java", "java -cp x.jar org.jruby.Main app.rb", Java),
        ("usr/bin/java", "java -cp x.jar org.jruby.Main -S gem install x", Installer),
        ("usr/bin/java", "java -cp x.jar org.jruby.Main /usr/bin/bundle exec puma", Java),
        ("usr/bin/java", "java -cp x.jar org.python.util.jython app.py", Java),
        ("usr/bin/java", "java -jar jython.jar -m pip install x", Installer),
        ("opt/graalpy/bin/graalpy", "graalpy app.py", Python),
        ("opt/graalpy/bin/graalpy", "graalpy -m pip install x", Installer),
        ("usr/bin/python3", "python3 -m PyInstaller app.py", Installer),
        ("usr/bin/python3", "python3 /venv/bin/cxfreeze app.py", Installer),
        ("usr/bin/python3", "python3 /venv/bin/mypy .", Installer),
        ("usr/bin/python3", "python3 /venv/bin/jedi-language-server", Installer),
        ("usr/bin/python3", "python3 -m vulture src", Installer),
        ("usr/bin/python3", "python3 -m sphinx docs out", Python),
        ("usr/bin/python3", "python3 /app/black.py", Python),
        ("usr/bin/python3", "python3 -m pytest tests", Python),
        ("usr/bin/python3", "python3 /venv/bin/pytest", Python),
        ("usr/bin/python3", "python3 -m http.server", Python),
        ("usr/bin/python3", "python3 -Xfrozen_modules=off -P -m flask run", Python),
        ("usr/bin/python3", "python3 -m ensurepip --upgrade", Installer),
        ("usr/bin/python3", "python3 -m virtualenv x", Installer),
        ("usr/bin/perl", "perl -w /usr/share/debconf/frontend x", Ignored),
        ("usr/bin/perl", "perl app.pl", Plain),
        ("usr/bin/ruby3.1", "ruby app.rb", Ruby),
        ("usr/bin/ruby", "ruby -e p(1)", Ruby),
        ("usr/bin/ruby", "ruby -c app.rb", Installer),
        ("usr/bin/ruby", "ruby -wc app.rb", Installer),
        ("usr/bin/ruby", "ruby -rcgi -Ilib app.rb", Ruby),
        ("usr/bin/ruby", "ruby -r bundler/setup -I lib app.rb install", Ruby),
        ("usr/bin/ruby", "ruby /usr/bin/bundle exec puma -C x", Ruby),
        ("usr/bin/ruby", "ruby /usr/bin/bundle exec bootsnap precompile app", Installer),
        ("usr/bin/ruby", "ruby /usr/bin/bundle install", Installer),
        ("usr/bin/ruby", "ruby /usr/bin/bundle", Installer),
        ("usr/bin/ruby", "ruby /usr/bin/gem3.1 install x", Installer),
        ("usr/bin/ruby", "ruby bin/rails server", Ruby),
        ("usr/bin/php8.2", "php public/index.php", Php),
        ("usr/bin/php8.2", "php -l index.php", Installer),
        ("usr/bin/php8.2", "php -d memory_limit=1 -S 127.0.0.1:80", Php),
        ("usr/bin/php8.2", "php /usr/bin/composer install --no-dev", Installer),
        ("usr/bin/php8.2", "php composer.phar run-script serve", Php),
        ("usr/bin/php8.2", "php vendor/bin/phpunit", Php),
        ("usr/bin/php8.2", "php vendor/bin/phpstan analyse", Installer),
        ("usr/bin/php8.2", "php -r opcache_compile_file('x');", Installer),
        ("usr/bin/php8.2", "php bin/opcache-warm.php", Installer),
        ("usr/sbin/php-fpm8.2", "php-fpm8.2 -F", Php),
        ("usr/local/sbin/php-fpm", "php-fpm", Php),
        ("usr/bin/phpize", "phpize", Plain),
        ("usr/bin/uv", "uv run app.py", Plain),
        ("usr/bin/uv", "uv pip install x", Installer),
        ("usr/bin/python3.11-dbg", "python3.11-dbg run.py", Python),
        ("usr/bin/python3.11-config", "python3.11-config --libs", Plain),
        ("usr/bin/python3", "python3 /app/build.py", Python),
        ("usr/bin/python3", "python3 safety.py", Python),
        ("usr/bin/python3", "python3 build", Python),
        ("usr/bin/python3", "python3 -m build", Installer),
        ("usr/bin/python3", "python3 /venv/bin/safety check", Installer),
        ("usr/bin/python3", "python3 /usr/lib/python3/dist-packages/pip install x", Installer),
        ("usr/bin/python3", "python3 /venv/bin/poetry -C /app run x", Python),
        ("usr/bin/python3", "python3 /venv/bin/poetry -C /app install", Installer),
        ("usr/bin/python3", "python3 -m hatch -e prod run x", Python),
        ("usr/bin/python3", "python3 -m hatch env run x", Python),
        ("usr/bin/python3", "python3 -m pdm -p /app serve-all", Python),
        ("usr/bin/python3", "python3 -m pdm sync", Installer),
        ("usr/bin/uv", "uv --directory /app run x", Plain),
        ("usr/bin/uv", "uv --unheard-of /app run x", Plain),
        ("usr/bin/uv", "uv tool run x", Plain),
        ("usr/bin/uv", "uv tool install x", Installer),
        ("usr/bin/uv", "uv --directory /app sync", Installer),
        ("usr/bin/node", "node /usr/bin/npm --prefix /app start", Node),
        ("usr/bin/node", "node /usr/bin/npm --prefix /app ci", Installer),
        ("usr/bin/node", "node /usr/bin/npm -w web start", Node),
        ("usr/bin/node", "node /usr/bin/npm -C /app run x", Node),
        ("usr/bin/node", "node /usr/bin/npm --unheard-of x start", Node),
        ("usr/bin/node", "node /usr/bin/npm --registry=http://x --silent i y", Installer),
        ("usr/bin/node", "node /usr/bin/npm --registry http://x i y", Installer),
        ("usr/bin/node", "node /usr/bin/npm install-test", Node),
        ("usr/bin/node", "node /usr/bin/npm", Installer),
        ("usr/bin/node", "node /usr/bin/yarn --cwd /app install", Installer),
        ("usr/bin/node", "node /usr/bin/yarn --cwd /app", Installer),
        ("usr/bin/node", "node /usr/bin/yarn --cwd /app start", Node),
        ("usr/bin/node", "node /usr/bin/yarn --frozen-lockfile --production", Installer),
        ("usr/bin/node", "node /usr/bin/yarn server", Node),
        ("usr/bin/node", "node /usr/bin/yarn deploy", Node),
        ("usr/bin/node", "node /usr/bin/yarn setup", Node),
        ("usr/bin/node", "node /usr/bin/yarn env", Node),
        ("usr/bin/node", "node /usr/bin/pnpm -C /app start", Node),
        ("usr/bin/node", "node /usr/bin/pnpm --filter web start", Node),
        ("usr/bin/node", "node /usr/bin/pnpm --filter web install", Installer),
        ("usr/bin/node", "node /usr/bin/pnpm -w install", Installer),
        ("usr/bin/node", "node /usr/bin/pnpm server", Node),
        ("usr/bin/node", "node /usr/bin/corepack pnpm@9 -C /app start", Node),
        ("usr/bin/pnpm", "pnpm --filter web start", Plain),
        ("usr/bin/node", "node node_modules/.bin/remix-serve build/index.js", Node),
        ("usr/bin/node", "node node_modules/.bin/next -p 3000", Node),
        ("usr/bin/node", "node node_modules/.bin/next ./web", Node),
        ("usr/bin/node", "node node_modules/.bin/vite --host 0.0.0.0", Node),
        ("usr/bin/node", "node node_modules/.bin/vite --mode production build", Ignored),
        ("usr/bin/node", "node node_modules/.bin/webpack --config x.js serve", Node),
        ("usr/bin/node", "node /app/standard.js", Node),
        ("usr/bin/bun", "bun --cwd /app install", Installer),
        ("usr/bin/bun", "bun --cwd /app start", Node),
        ("usr/bin/bun", "bun deploy", Node),
        ("usr/bin/deno", "deno serve", Node),
        ("usr/bin/ruby.ruby3.1", "ruby.ruby3.1 app.rb", Ruby),
        ("usr/bin/ruby3.1", "ruby3.1 /usr/bin/gem install x", Installer),
        ("usr/bin/ruby", "ruby /usr/bin/bundle --gemfile X exec puma", Ruby),
        ("usr/bin/ruby", "ruby /usr/bin/bundle --gemfile X install", Installer),
        ("usr/bin/ruby", "ruby /usr/bin/gem exec app", Ruby),
        ("usr/bin/ruby", "ruby /app/yard.rb", Ruby),
        ("usr/bin/ruby", "ruby -I /usr/lib/ruby -r ./siteconf.rb extconf.rb", Installer),
        ("usr/bin/ruby", "ruby -S bundle install", Installer),
        ("usr/bin/ruby", "ruby -S puma -C x", Ruby),
        ("usr/bin/ruby", "ruby /usr/bin/bundle exec rubocop -a", Installer),
        ("usr/bin/ruby", "ruby /usr/bin/rake install", Ruby),
        ("usr/bin/ruby", "ruby /usr/bin/irb", Ruby),
        ("usr/bin/ruby", "ruby /usr/bin/gem build x.gemspec", Installer),
        ("usr/bin/php", "php /usr/bin/phpunit tests", Php),
        ("usr/bin/php", "php /app/artisan serve", Php),
        ("usr/bin/php", "php /usr/bin/composer run serve", Php),
        ("usr/bin/php", "php composer.phar dump-autoload -o", Installer),
        ("usr/local/lsws/bin/lsphp99", "lsphp99", Php),
        ("usr/sbin/php82-fpm", "php82-fpm -F", Php),
        ("usr/bin/php", "php /usr/bin/composer -d DIR run-script x", Php),
        ("usr/bin/php", "php /usr/bin/composer -d DIR install", Installer),
        ("usr/bin/php", "php /usr/bin/composer --working-dir DIR x", Php),
        ("usr/bin/php", "php /usr/bin/composer global exec x", Php),
        ("usr/bin/php", "php /usr/bin/composer global require x", Installer),
        ("usr/bin/php", "php /usr/bin/composer", Installer),
        ("usr/bin/php", "php opcache-x.php", Php),
        ("usr/bin/php", "php /app/rector.php", Php),
        ("usr/bin/php", "php rector.phar", Installer),
        ("usr/local/lsws/lsphp82/bin/lsphp", "lsphp", Php),
        ("usr/bin/lsphp82", "lsphp82 index.php", Php),
        ("usr/bin/php8.2-cgi", "php8.2-cgi -l index.php", Installer),
        ("usr/bin/zts-php", "zts-php index.php", Php),
        ("usr/bin/php-zts", "php-zts -l index.php", Installer),
        ("usr/bin/swoole-cli", "swoole-cli server.php", Php),
        ("usr/bin/frankenphp", "frankenphp run --config x", Php),
        // Options before what decides.
        ("usr/bin/php", "php -d memory_limit=-1 /usr/bin/composer install", Installer),
        ("usr/bin/php", "php -q /usr/bin/composer install", Installer),
        ("usr/bin/php", "php -r require('app.php');", Php),
        ("usr/bin/python3", "python3 -X dev -m pip list", Installer),
        ("usr/bin/python3", "python3 -W ignore -m pip list", Installer),
        ("usr/bin/python3", "python3 --check-hash-based-pycs never -m pip list", Installer),
        ("usr/bin/python3", "python3 -I /venv/bin/pip list", Installer),
        ("usr/bin/python3", "python3 /venv/bin/pip.py list", Installer),
        ("usr/bin/python3", "python3 - pip", Python),
        ("usr/bin/graalpython", "graalpython app.py", Python),
        ("usr/bin/ruby", "ruby - gem list", Ruby),
        ("usr/bin/node", "node /usr/bin/npm --no-audit i y", Installer),
        ("usr/bin/node", "node /usr/local/bin/eslint .", Ignored),
        ("usr/bin/node", "node node_modules/.bin/webpack build", Ignored),
        ("usr/bin/node", "node yarn-app.js install", Node),
        ("", "", Plain),
    ];
    for (executable, command, expected) in cases {
        let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
        assert_eq!(judge(executable.as_bytes(), &arguments), expected, "{executable} {command}");
    }
}

#[test]
fn judges_what_a_bundler_starts() {
    use Reader::{Ignored, Installer, Node, Plain, Python};
    for (executable, command, expected) in [
        ("usr/bin/node", "node a.js", Node),
        ("usr/bin/node", "node -r ./x.js /app/dist/a.js", Node),
        ("usr/bin/node", "node -e 1", Node),
        ("usr/bin/node", "node /app/node_modules/jest-worker/build/workers/processChild.js", Ignored),
        ("usr/bin/node", "node /app/node_modules/.bin/eslint .", Ignored),
        ("usr/bin/node", "node /usr/lib/node_modules/npm/bin/npm-cli.js ci", Installer),
        ("usr/bin/python3", "python3 app.py", Python),
        ("usr/bin/python3", "python3 /app/node_modules/x/gyp_main.py", Ignored),
        ("app/node_modules/@esbuild/linux-x64/bin/esbuild", "esbuild --service", Plain),
    ] {
        let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
        assert_eq!(judge_below_tool(executable.as_bytes(), &arguments), expected, "{executable} {command}");
    }
    for (executable, command, expected) in [
        ("usr/bin/node", "node /app/node_modules/.bin/tsup", true),
        ("usr/bin/node", "node /usr/bin/npm-cli.js ci", false),
        ("usr/bin/node", "node a.js", false),
        ("usr/bin/dpkg", "dpkg -i x", false),
    ] {
        let arguments: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let reader = judge(executable.as_bytes(), &arguments);
        assert_eq!(may_start_application(executable.as_bytes(), reader), expected, "{command}");
    }
}

#[test]
fn the_kernel_knows_the_same_beginnings() {
    let source = include_str!("../../bpf/process.h");
    for name in JUDGED_BEGINNINGS.iter().chain(LINKER_BEGINNINGS) {
        let compared = format!("starts_with(name.name, \"{name}\", {})", name.len());
        assert!(source.contains(&compared), "{compared}");
    }
    assert_eq!(
        source.matches("starts_with(name.name, ").count(),
        JUDGED_BEGINNINGS.len() + LINKER_BEGINNINGS.len()
    );
}

/// Tools that may run an application are known by their words only, which the audit library tells of these.
#[test]
fn the_audit_library_tells_the_words_of_tools() {
    let audit = include_str!("../../../audit/src/audit.c");
    for name in ["java", "uv", "uvx", "npm", "pnpm", "yarn", "graalpy"].iter().chain(LINKER_BEGINNINGS) {
        let mut beginnings = (2..=name.len()).map(|length| format!("\"{}\"", &name[..length]));
        assert!(beginnings.any(|known| audit.contains(&known)), "{name}");
    }
}

#[test]
fn names_fit_the_kernels_key() {
    for name in IGNORED_PROGRAMS.iter().chain(JUDGED_PROGRAMS) {
        assert!(name.len() <= 15, "{name} is longer than a key of the programs map");
    }
}
