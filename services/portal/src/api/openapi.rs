//! The OpenAPI document, made from the handlers and the types that they answer with.
//! It must never miss a route: a test compares it with the router's paths.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{alerts, applications, artifacts, packages, report, scan_requests, vulnerabilities};
use crate::model::Problem;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Plimsoll",
        description = "Which packages of an application are really loaded, which of them are vulnerable, and what to do.\n\n\
            Lists are paged: give `next_cursor` of an answer as `cursor` of the next request, with the same filters. \
            Errors are problem documents (RFC 9457) with a `remedy`. Times ending in `_ms` are milliseconds since the \
            Unix epoch, the others RFC 3339 in UTC.",
    ),
    paths(
        applications::list, applications::one, applications::component, packages::of_component,
        packages::one_of_component, packages::files_of_component, applications::findings, applications::alerts,
        report::report, artifacts::list, artifacts::one, artifacts::packages, artifacts::findings,
        artifacts::components, artifacts::workloads, packages::occurrences, vulnerabilities::one, alerts::list,
        scan_requests::create
    ),
    components(schemas(Problem)),
    tags(
        (name = "applications", description = "Applications and the versions of their components"),
        (name = "artifacts", description = "What is scanned and run"),
        (name = "packages", description = "Packages, their use and their files"),
        (name = "vulnerabilities", description = "Who is affected, who executes it"),
        (name = "alerts", description = "Runtime risks"),
        (name = "scan-requests", description = "Ask the scanner for a scan")
    ),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let scheme = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        components.add_security_scheme("bearer", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("basic", scheme(HttpAuthScheme::Basic));
        // The empty requirement: on a loopback address the portal may run without a token.
        document.security = Some(vec![
            SecurityRequirement::new("bearer", Vec::<String>::new()),
            SecurityRequirement::new("basic", Vec::<String>::new()),
            SecurityRequirement::default(),
        ]);
    }
}
