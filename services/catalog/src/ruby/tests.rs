use crate::OwnershipIndex;
use crate::testing::Node::{Directory, File};
use crate::testing::{catalog, check_owners, owners, package, tree};
use crate::tree::MemoryTree;

const ROOT: &str = "usr/local/lib/ruby/gems/3.1.0";

fn installation() -> MemoryTree {
    let stub = |line: &str, body: &str| {
        format!("# -*- encoding: utf-8 -*-\n# stub: {line}\n\nGem::Specification.new do |s|\n{body}end\n")
    };
    let rack = stub(
        "rack 2.2.4 ruby lib",
        "  s.licenses = [\"MIT\".freeze]\n  s.executables = [\"rackup\".freeze]\n",
    );
    let nokogiri = stub(
        "nokogiri 1.13.10 x86_64-linux lib",
        "  s.add_runtime_dependency(%q<racc>.freeze, [\"~> 1.4\"])\n",
    );
    let json = stub(
        "json 2.6.1 ruby lib",
        "  s.files = [\"lib/json.rb\".freeze, \"json/ext/parser.so\".freeze, \"ext/json/extconf.rb\".freeze, \"lib/json/gone.rb\"]\n",
    );
    let set = stub("set 1.0.2 ruby lib", "");
    let types = stub("types 1.0 ruby lib", "");
    let git = "Gem::Specification.new do |s|\n  s.name = 'my-gem'\n  s.version = My::Gem::VERSION\nend\n";
    let in_root = |path: &str| format!("{ROOT}/{path}");
    let files: Vec<(String, Vec<u8>)> = vec![
        (in_root("specifications/rack-2.2.4.gemspec"), rack.into_bytes()),
        (in_root("gems/rack-2.2.4/lib/rack.rb"), vec![]),
        (in_root("gems/rack-2.2.4/rack.gemspec"), b"Gem::Specification.new".to_vec()),
        (in_root("bin/rackup"), vec![]),
        (in_root("specifications/nokogiri-1.13.10-x86_64-linux.gemspec"), nokogiri.into_bytes()),
        (in_root("gems/nokogiri-1.13.10-x86_64-linux/lib/nokogiri.rb"), vec![]),
        (in_root("extensions/x86_64-linux/3.1.0/nokogiri-1.13.10-x86_64-linux/nokogiri/nokogiri.so"), vec![]),
        (in_root("specifications/default/json-2.6.1.gemspec"), json.into_bytes()),
        (in_root("specifications/default/set-1.0.2.gemspec"), set.into_bytes()),
        ("usr/local/lib/ruby/3.1.0/json.rb".into(), vec![]),
        ("usr/local/lib/ruby/3.1.0/x86_64-linux/rbconfig.rb".into(), vec![]),
        ("usr/local/lib/ruby/3.1.0/x86_64-linux/json/ext/parser.so".into(), vec![]),
        ("usr/local/lib/ruby/3.1.0/set.rb".into(), vec![]),
        ("usr/local/lib/ruby/3.1.0/set/sorted_set.rb".into(), vec![]),
        ("usr/local/lib/ruby/3.1.0/English.rb".into(), vec![]),
        (in_root("specifications/types-1.0.gemspec"), types.into_bytes()),
        (in_root("gems/types-1.0/sig/a.rbs"), vec![]),
        ("app/vendor/bundle/ruby/3.1.0/bundler/gems/my-gem-0123abc/my-gem.gemspec".into(), git.into()),
        (
            "app/vendor/bundle/ruby/3.1.0/bundler/gems/my-gem-0123abc/lib/my/gem/version.rb".into(),
            b"  VERSION = \"0.9.1\"\n".to_vec(),
        ),
        ("app/Gemfile.lock".into(), b"GEM\n  specs:\n    absent (1.0)\n".to_vec()),
        ("app/app.gemspec".into(), b"s.name = 'app'\ns.version = '1'\n".to_vec()),
        // Garbage: its name tells, and that of the last does not.
        (in_root("specifications/broken-0.1.0.gemspec"), vec![0xff; 100]),
        (in_root("specifications/hopeless.gemspec"), b"system('rm -rf /')".to_vec()),
    ];
    let nodes: Vec<(&str, crate::testing::Node<'_>)> =
        files.iter().map(|(path, bytes)| (path.as_str(), File(bytes))).collect();
    tree(&nodes)
}

#[test]
fn gems_with_their_facts() {
    let outcome = catalog(&installation());
    let listed: Vec<String> = outcome
        .packages
        .iter()
        .map(|package| {
            format!("{} {} {}", package.purl, package.loadable_file_count, package.observable_by.join(","))
        })
        .collect();
    assert_eq!(
        listed,
        [
            "pkg:gem/broken@0.1.0 0 ",
            "pkg:gem/json@2.6.1 2 ebpf-files,ruby-feature",
            "pkg:gem/my-gem@0.9.1 1 ebpf-files,ruby-feature",
            "pkg:gem/nokogiri@1.13.10?platform=x86_64-linux 2 ebpf-files,ruby-feature",
            "pkg:gem/rack@2.2.4 1 ebpf-files,ruby-feature",
            "pkg:gem/set@1.0.2 2 ebpf-files,ruby-feature",
            "pkg:gem/types@1.0 0 ",
        ]
    );
    assert_eq!(package(&outcome, "types").not_measurable_reason, "it has no loadable file");
    assert_eq!(package(&outcome, "nokogiri").dependencies, ["racc"]);
    assert_eq!(package(&outcome, "rack").licenses, ["MIT"]);
    let warned: Vec<&str> = outcome.warnings.iter().map(|warning| warning.subject.as_str()).collect();
    let expect = ["broken-0.1.0", "hopeless"].map(|name| format!("{ROOT}/specifications/{name}.gemspec"));
    assert_eq!(warned, expect);
}

#[test]
fn ownership() {
    let index = OwnershipIndex::build(&installation());
    check_owners(
        &index,
        &[
            (format!("{ROOT}/gems/rack-2.2.4/lib/rack.rb"), "rack gem code"),
            (format!("{ROOT}/gems/rack-2.2.4/rack.gemspec"), "rack gem metadata"),
            (format!("{ROOT}/specifications/rack-2.2.4.gemspec"), "rack gem metadata"),
            (format!("{ROOT}/bin/rackup"), "rack gem code"),
            (
                format!(
                    "{ROOT}/extensions/x86_64-linux/3.1.0/nokogiri-1.13.10-x86_64-linux/nokogiri/nokogiri.so"
                ),
                "nokogiri gem code",
            ),
            ("usr/local/lib/ruby/3.1.0/json.rb".to_owned(), "json gem code"),
            ("usr/local/lib/ruby/3.1.0/x86_64-linux/json/ext/parser.so".to_owned(), "json gem code"),
            ("usr/local/lib/ruby/3.1.0/set/sorted_set.rb".to_owned(), "set gem code"),
            ("usr/local/lib/ruby/3.1.0/English.rb".to_owned(), "-"),
            (
                "app/vendor/bundle/ruby/3.1.0/bundler/gems/my-gem-0123abc/lib/my/gem/version.rb".to_owned(),
                "my-gem gem code",
            ),
            ("app/app.gemspec".to_owned(), "-"),
        ],
    );
}

#[test]
fn debian_carries_gems_of_its_own() {
    let status = b"Package: ruby-xmlrpc\nStatus: install ok installed\nVersion: 0.3.2-2\nArchitecture: all\n";
    let spec = b"# stub: xmlrpc 0.3.2 ruby lib\n";
    let tree = tree(&[
        ("var/lib/dpkg/status", File(status)),
        (
            "var/lib/dpkg/info/ruby-xmlrpc.list",
            File(
                b"/usr/lib/ruby/vendor_ruby\n/usr/lib/ruby/vendor_ruby/xmlrpc.rb\n/usr/lib/ruby/vendor_ruby/xmlrpc\n/usr/lib/ruby/vendor_ruby/xmlrpc/client.rb\n/usr/share/rubygems-integration/all/specifications/xmlrpc-0.3.2.gemspec\n",
            ),
        ),
        ("usr/lib/ruby/vendor_ruby/xmlrpc.rb", File(b"")),
        ("usr/lib/ruby/vendor_ruby/xmlrpc/client.rb", File(b"")),
        ("usr/share/rubygems-integration/all/specifications/xmlrpc-0.3.2.gemspec", File(spec)),
        ("usr/share/rubygems-integration/all/gems", Directory),
    ]);
    let outcome = catalog(&tree);
    let gem = package(&outcome, "xmlrpc");
    assert_eq!((gem.provided_by_name.as_str(), gem.loadable_file_count), ("ruby-xmlrpc", 2));
    let index = OwnershipIndex::build(&tree);
    assert_eq!(owners(&index, "usr/lib/ruby/vendor_ruby/xmlrpc/client.rb"), "ruby-xmlrpc,xmlrpc dpkg code");
}
