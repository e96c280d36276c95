#![no_main]

use plimsoll_vulndb::version::Scheme;

const SCHEMES: [Scheme; 8] = [
    Scheme::Dpkg,
    Scheme::Pep440,
    Scheme::Maven,
    Scheme::Npm,
    Scheme::RubyGems,
    Scheme::Composer,
    Scheme::Go,
    Scheme::Cargo,
];

// Two versions, one on each line, in every order: comparing, both ways, must not panic.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let (first, second) = text.split_once('\n').unwrap_or((text, "1.0"));
    for scheme in SCHEMES {
        if let (Some(a), Some(b)) = (scheme.parse(first), scheme.parse(second)) {
            let forth = a.compare_to_boundary(&b);
            let _ = (forth, b.compare_to_boundary(&a), a.canonical(), a.spellings());
        }
    }
});
