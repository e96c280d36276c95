//! Who may read, and what a browser may do with a page.
//! It must never serve anything but a loopback address without a token.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll_schemas::identity::Sha256Digest;

use crate::error::PortalError;

/// Shortest token that is accepted, in bytes.
pub const TOKEN_MIN_BYTES: usize = 16;

/// Headers of every answer. Pages need nothing but the portal's own style sheet and image.
pub const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Who may read.
pub enum Access {
    /// Whoever knows the token. Its digest is kept, so that a comparison takes the same time for any text.
    Token(Sha256Digest),
    /// Whoever reaches the loopback address by one of its names.
    Loopback,
}

impl Access {
    /// Decides by the address and the token.
    ///
    /// # Errors
    /// Why the portal must not start, with the remedy.
    pub fn new(address: SocketAddr, token: Option<&str>) -> anyhow::Result<Self> {
        match token.map(str::trim) {
            Some(token) if token.len() < TOKEN_MIN_BYTES => {
                anyhow::bail!(
                    "the portal's token is shorter than {TOKEN_MIN_BYTES} bytes; write a longer one to the file that portal.token_file names"
                )
            }
            Some(token) => Ok(Self::Token(Sha256Digest::of(token.as_bytes()))),
            None if is_loopback(address.ip()) => Ok(Self::Loopback),
            None => anyhow::bail!(
                "portal.bind is {address}, which others can reach; set portal.token_file, or bind a loopback address"
            ),
        }
    }

    /// Whether a request with these headers may read.
    ///
    /// # Errors
    /// [`PortalError::Unauthorized`] or [`PortalError::ForeignHost`].
    pub fn check(&self, headers: &HeaderMap) -> Result<(), PortalError> {
        match self {
            Self::Token(digest) => {
                let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
                match given.and_then(presented_token) {
                    Some(token) if Sha256Digest::of(token.as_bytes()) == *digest => Ok(()),
                    _ => Err(PortalError::Unauthorized),
                }
            }
            // A page of a stranger can make a browser ask for any name that resolves to 127.0.0.1; its requests carry
            // the stranger's name.
            Self::Loopback => {
                let host =
                    headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
                if is_loopback_name(host) { Ok(()) } else { Err(PortalError::ForeignHost(host.to_owned())) }
            }
        }
    }
}

/// The token of `Authorization: Bearer TOKEN` or `Authorization: Basic base64(name:TOKEN)`.
fn presented_token(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        return Some(text.split_once(':')?.1.to_owned());
    }
    None
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|mapped| mapped.is_loopback())
        }
    }
}

/// Whether a Host header names a loopback address.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

/// Adds [`HEADERS`] and, for what was refused, how to authenticate.
pub fn add_headers(headers: &mut HeaderMap, refused: bool) {
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // What is shown is the reader's own; only the assets say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if refused {
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"Plimsoll\", charset=\"UTF-8\""),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn only_loopback_starts_without_a_token() {
        let check = |address: &str, token: Option<&str>, ok: bool| {
            assert_eq!(Access::new(address.parse().unwrap(), token).is_ok(), ok, "{address} {token:?}");
        };
        check("127.0.0.1:0", None, true);
        check("127.8.8.8:80", None, true);
        check("[::1]:80", None, true);
        check("0.0.0.0:80", None, false);
        check("[::]:80", None, false);
        check("192.0.2.1:80", None, false);
        check("0.0.0.0:80", Some(TOKEN), true);
        check("0.0.0.0:80", Some(" short \n"), false);
        check("127.0.0.1:80", Some(""), false);
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_is_asked_for() {
        let access = Access::new("0.0.0.0:80".parse().unwrap(), Some(&format!("{TOKEN}\n"))).unwrap();
        let check = |value: &str, ok: bool| {
            assert_eq!(access.check(&headers(header::AUTHORIZATION, value)).is_ok(), ok, "{value}");
        };
        check(&format!("Bearer {TOKEN}"), true);
        check(&format!("bearer  {TOKEN} "), true);
        check(&format!("Basic {}", STANDARD.encode(format!("anyone:{TOKEN}"))), true);
        check(&format!("Basic {}", STANDARD.encode(format!("{TOKEN}:"))), false);
        check("Bearer wrong", false);
        check(TOKEN, false);
        assert!(access.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn without_a_token_the_host_must_be_a_loopback_name() {
        let access = Access::new("127.0.0.1:80".parse().unwrap(), None).unwrap();
        let check = |host: &str, ok: bool| {
            assert_eq!(access.check(&headers(header::HOST, host)).is_ok(), ok, "{host}");
        };
        check("127.0.0.1:8080", true);
        check("localhost", true);
        check("LocalHost:80", true);
        check("[::1]:80", true);
        check("evil.example:8080", false);
        check("127.0.0.1.evil.example", false);
        check("", false);
        assert!(access.check(&HeaderMap::new()).is_err());
    }
}
