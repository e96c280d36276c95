//! Addresses of pages: every segment and value percent-encoded.
//! It must never put text into an address as it came.

use plimsoll_schemas::identity::encode;

use crate::store::ComponentRef;

/// An application's page.
pub fn application(name: &str) -> String {
    format!("/applications/{}", encode(name))
}

/// A component version's dashboard.
pub fn component(of: &ComponentRef) -> String {
    component_of(&of.application, &of.component, &of.version)
}

/// A component version's dashboard, by its names.
pub fn component_of(application: &str, component: &str, version: &str) -> String {
    format!(
        "/applications/{}/components/{}/versions/{}",
        encode(application),
        encode(component),
        encode(version)
    )
}

/// A package of a component version.
pub fn component_package(of: &ComponentRef, artifact: &str, package_id: &str) -> String {
    format!("{}/packages/{}/{}", component(of), encode(artifact), encode(package_id))
}

/// An artifact's page.
pub fn artifact(key: &str) -> String {
    format!("/artifacts/{}", encode(key))
}

/// Who has a package.
pub fn purl(purl: &str) -> String {
    format!("/packages?purl={}", encode(purl))
}

/// Who is affected by a vulnerability.
pub fn vulnerability(id: &str) -> String {
    format!("/vulnerabilities/{}", encode(id))
}

/// `path?name=value&…`, without the pairs that are empty.
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let parts: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded() {
        assert_eq!(
            component_of("a/b", "<script>", "1.0 é"),
            "/applications/a%2Fb/components/%3Cscript%3E/versions/1.0%20%C3%A9"
        );
        assert_eq!(artifact("image/sha256:00"), "/artifacts/image%2Fsha256%3A00");
        assert_eq!(with_query("/p", &[("a", ""), ("q", "x&y=1")]), "/p?q=x%26y%3D1");
        assert_eq!(with_query("/p", &[("a", "")]), "/p");
    }
}
