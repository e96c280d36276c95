//! What every version order must obey, for the tests beside the orders.
//! Never knows anything of one order: versions come in as text.

use std::cmp::Ordering;

/// The texts are strictly ascending: every pair in both directions.
pub(super) fn sorted<'a, V: Ord>(parse: impl Fn(&'a str) -> Option<V>, texts: &[&'a str]) {
    let versions: Vec<V> =
        texts.iter().map(|text| parse(text).unwrap_or_else(|| panic!("{text} is refused"))).collect();
    for (i, a) in versions.iter().enumerate() {
        for (j, b) in versions.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{} against {}", texts[i], texts[j]);
        }
    }
}

/// The texts are spellings of one version.
pub(super) fn equal<'a, V: Ord>(parse: impl Fn(&'a str) -> Option<V>, texts: &[&'a str]) {
    let first = parse(texts[0]).unwrap();
    for text in texts {
        let version = parse(text).unwrap_or_else(|| panic!("{text} is refused"));
        assert_eq!(first.cmp(&version), Ordering::Equal, "{} against {text}", texts[0]);
    }
}

/// Property tests of a module's `Version`: the order is total, equal versions and no others share their canonical
/// spelling, which parses to the version itself, and no text makes the parser panic. The pattern makes versions, not all of them valid.
macro_rules! total_order {
    ($pattern:literal) => {
        proptest::proptest! {
            #[test]
            fn is_a_total_order(texts in proptest::array::uniform3($pattern)) {
                let versions: Vec<_> = texts.iter().filter_map(|text| Version::parse(text)).collect();
                if let [a, b, c] = &versions[..] {
                    proptest::prop_assert_eq!(a.cmp(a), Ordering::Equal);
                    proptest::prop_assert_eq!(a.cmp(b), b.cmp(a).reverse());
                    if a <= b && b <= c {
                        proptest::prop_assert!(a <= c);
                    }
                    if a == b {
                        proptest::prop_assert_eq!(a.cmp(c), b.cmp(c));
                    }
                    proptest::prop_assert_eq!(a == b, a.canonical() == b.canonical());
                }
            }

            #[test]
            fn parsing_never_panics(text in "\\PC{0,24}", start in "[0-9v=.x+-]{0,8}", end in "[a-z0-9.+-]{0,8}") {
                let text = [start, text, end].concat();
                if let Some(version) = Version::parse(&text) {
                    let _ = (version.canonical(), version.cmp(&version));
                }
            }
        }
    };
}
pub(super) use total_order;
