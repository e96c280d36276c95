//! A schema registry over HTTP, Confluent's API
//! (https://docs.confluent.io/platform/current/schema-registry/develop/api.html).
//! Never retries without a bound, and never remembers a failure.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use plimsoll_schemas::codec::{CodecError, SCHEMA_CACHE_MAX_ENTRIES, SchemaStore};
use serde_json::{Value, json};

use super::{RegistryError, SchemaRegistry};
use crate::config::SchemaRegistryConfig;

/// Tries of one request, the first included.
const ATTEMPTS_MAX: u32 = 3;
/// Wait before the second try; doubled before each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Largest answer that is read, in bytes.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Media type of the API.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A registry that speaks Confluent's API.
pub struct HttpRegistry {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
    ids: RwLock<HashMap<(String, String), u32>>,
    schemas: RwLock<HashMap<u32, Arc<str>>>,
}

enum Method {
    Get,
    Post(Value),
    Put(Value),
}

impl HttpRegistry {
    /// Opens a client; does not ask the server yet.
    ///
    /// # Errors
    /// [`RegistryError::InvalidUrl`].
    pub fn new(config: &SchemaRegistryConfig) -> Result<Self, RegistryError> {
        let url = config.url.clone().unwrap_or_default();
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(RegistryError::InvalidUrl(url));
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(config.request_timeout_ms)))
            .http_status_as_error(false)
            .build();
        let authorization = config.username.as_ref().map(|username| {
            let password = config.password.as_ref().map_or("", |password| password.expose());
            format!("Basic {}", base64(format!("{username}:{password}").as_bytes()))
        });
        Ok(Self {
            agent: agent.new_agent(),
            base: url.trim_end_matches('/').to_owned(),
            authorization,
            ids: RwLock::default(),
            schemas: RwLock::default(),
        })
    }

    /// One request with bounded retries of what may pass. Returns status and body.
    fn request(&self, method: &Method, path: &str) -> Result<(u16, Value), RegistryError> {
        let url = format!("{}{path}", self.base);
        let mut backoff = BACKOFF_FIRST;
        let mut attempt = 1;
        loop {
            let outcome = self.try_once(method, &url);
            match outcome {
                Ok((401 | 403, _)) => {
                    let status = outcome.map_or(401, |(status, _)| status);
                    return Err(RegistryError::Unauthorized { url, status });
                }
                Ok((status, body)) if status < 500 => return Ok((status, body)),
                failed if attempt == ATTEMPTS_MAX => {
                    let reason = match failed {
                        Ok((status, body)) => format!("status {status}: {}", message(&body)),
                        Err(reason) => reason,
                    };
                    return Err(RegistryError::Unreachable { url, reason });
                }
                _ => {
                    std::thread::sleep(backoff);
                    backoff *= 2;
                    attempt += 1;
                }
            }
        }
    }

    fn try_once(&self, method: &Method, url: &str) -> Result<(u16, Value), String> {
        let authorization = self.authorization.as_deref();
        let response = match method {
            Method::Get => {
                let mut request = self.agent.get(url).header("accept", MEDIA_TYPE);
                if let Some(value) = authorization {
                    request = request.header("authorization", value);
                }
                request.call()
            }
            Method::Post(body) | Method::Put(body) => {
                let request = if matches!(method, Method::Post(_)) {
                    self.agent.post(url)
                } else {
                    self.agent.put(url)
                };
                let mut request = request.header("accept", MEDIA_TYPE).header("content-type", MEDIA_TYPE);
                if let Some(value) = authorization {
                    request = request.header("authorization", value);
                }
                request.send(body.to_string())
            }
        };
        let mut response = response.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_string();
        let body = body.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    fn remember(&self, id: u32, schema: Arc<str>) {
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        if schemas.len() < SCHEMA_CACHE_MAX_ENTRIES {
            schemas.insert(id, schema);
        }
    }
}

fn message(body: &Value) -> String {
    match (body.get("message").and_then(Value::as_str), body) {
        (Some(message), _) => message.to_owned(),
        (None, Value::String(text)) => text.chars().take(300).collect(),
        (None, other) => other.to_string().chars().take(300).collect(),
    }
}

impl SchemaRegistry for HttpRegistry {
    fn name(&self) -> String {
        self.base.clone()
    }

    fn register(&self, subject: &str, schema_json: &str) -> Result<u32, RegistryError> {
        let key = (subject.to_owned(), schema_json.to_owned());
        if let Some(id) = self.ids.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*id);
        }
        let path = format!("/subjects/{}/versions", percent_encode(subject));
        let (status, body) = self.request(&Method::Post(json!({ "schema": schema_json })), &path)?;
        let id = body.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let Some(id) = id.filter(|_| status == 200) else {
            return Err(RegistryError::Refused {
                url: format!("{}{path}", self.base),
                subject: subject.to_owned(),
                status,
                reason: message(&body),
            });
        };
        let mut ids = self.ids.write().unwrap_or_else(PoisonError::into_inner);
        if ids.len() < SCHEMA_CACHE_MAX_ENTRIES {
            ids.insert(key, id);
        }
        drop(ids);
        self.remember(id, schema_json.into());
        Ok(id)
    }

    fn schema(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        if let Some(schema) = self.schemas.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(schema.clone());
        }
        let path = format!("/schemas/ids/{id}");
        let (status, body) = self.request(&Method::Get, &path)?;
        match body.get("schema").and_then(Value::as_str).filter(|_| status == 200) {
            Some(schema) => {
                let schema: Arc<str> = schema.into();
                self.remember(id, schema.clone());
                Ok(schema)
            }
            None if status == 404 => {
                Err(RegistryError::UnknownSchema { url: format!("{}{path}", self.base), id })
            }
            None => Err(RegistryError::Unreachable {
                url: format!("{}{path}", self.base),
                reason: format!("status {status}: {}", message(&body)),
            }),
        }
    }

    fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), RegistryError> {
        let path = format!("/config/{}", percent_encode(subject));
        let (status, body) = self.request(&Method::Put(json!({ "compatibility": level })), &path)?;
        if status == 200 {
            return Ok(());
        }
        Err(RegistryError::Refused {
            url: format!("{}{path}", self.base),
            subject: subject.to_owned(),
            status,
            reason: message(&body),
        })
    }

    fn check(&self) -> Result<(), RegistryError> {
        let (status, body) = self.request(&Method::Get, "/subjects")?;
        if status == 200 {
            return Ok(());
        }
        Err(RegistryError::Unreachable {
            url: format!("{}/subjects", self.base),
            reason: format!("status {status}: {}; is this a registry with Confluent's API?", message(&body)),
        })
    }
}

impl SchemaStore for HttpRegistry {
    fn id_of(&self, subject: &str, schema: &str) -> Result<u32, CodecError> {
        Ok(self.register(subject, schema)?)
    }
    fn schema_by_id(&self, id: u32) -> Result<Arc<str>, CodecError> {
        Ok(self.schema(id)?)
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// RFC 4648 base64 with padding, for basic authentication.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let index = (group >> (18 - 6 * position)) & 63;
            text.push(if position <= chunk.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        fn check(input: &str, expect: &str) {
            assert_eq!(base64(input.as_bytes()), expect);
        }
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("user:päss", "dXNlcjpww6Rzcw==");
    }

    #[test]
    fn errors_name_the_url_and_the_key() {
        let config = SchemaRegistryConfig { url: Some("ftp://x".into()), ..Default::default() };
        assert!(matches!(HttpRegistry::new(&config), Err(RegistryError::InvalidUrl(_))));
        // Port 1 on loopback has no listener.
        let config = SchemaRegistryConfig { url: Some("http://127.0.0.1:1".into()), ..Default::default() };
        let error = HttpRegistry::new(&config).unwrap().check().unwrap_err();
        assert!(error.is_retriable());
        let text = error.to_string();
        assert!(
            text.contains("http://127.0.0.1:1/subjects") && text.contains("schema_registry.url"),
            "{text}"
        );
    }
}
