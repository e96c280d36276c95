//! Owners of one class of an archive that several components are merged into, by the prefixes that they claim.
//! Never takes from a component what nobody claims more closely than it.

use super::Owner;
use crate::PackageKind;
use crate::java::{claims_of, class_name};

/// Keeps of an archive's owners those of the member at `inner`, where that is a class: the components with the longest
/// matching prefix, else those that claim nothing, else all. OS packages own all of it.
pub(super) fn narrow(owners: &mut Vec<Owner<'_>>, inner: &[u8]) {
    let Some(class) = class_name(inner) else { return };
    let claimed = |owner: &Owner<'_>| {
        let matching =
            claims_of(owner.class_prefixes).iter().filter(|prefix| class.starts_with(prefix.as_str()));
        matching.map(String::len).max().unwrap_or(0)
    };
    let is_application = |owner: &&Owner<'_>| owner.package.kind == PackageKind::Application;
    let longest = owners.iter().filter(is_application).map(claimed).max().unwrap_or(0);
    let has_rest =
        owners.iter().filter(is_application).any(|owner| claims_of(owner.class_prefixes).is_empty());
    owners.retain(|owner| {
        let is_its = if longest > 0 {
            claimed(owner) == longest
        } else {
            claims_of(owner.class_prefixes).is_empty() || !has_rest
        };
        owner.package.kind == PackageKind::Os || is_its
    });
}
