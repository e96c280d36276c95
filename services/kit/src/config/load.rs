//! Reads the layers of a configuration and merges them.
//! Never reads the process's environment or files except through what it is given, so that tests need neither.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::keys::{edit_distance, environment_name, leaves, nearest};
use super::{ConfigArgs, ConfigError, Loaded, ServiceConfig, Source};

/// Environment variables that are not configuration keys.
const OTHER_VARIABLES: [&str; 2] = ["PLIMSOLL_CONFIG", "PLIMSOLL_MACHINE_ID_FILE"];
/// Prefixes of environment variables of the development stack and of what the agent puts into workloads.
const OTHER_PREFIXES: [&str; 5] =
    ["PLIMSOLL_TEST_", "PLIMSOLL_STACK_", "PLIMSOLL_OSV_", "PLIMSOLL_XTASK", "PLIMSOLL_HOOK_"];
/// Keys of earlier versions and what they are called now: refused, since a key that is silently not read would be
/// worse, and named although their spelling is far from the new one's.
const RENAMED: [(&str, &str); 6] = [
    ("scanner.docker_host", "docker.host"),
    ("docker.endpoint", "docker.host"),
    ("docker_host", "docker.host"),
    ("correlator.state_directory", "state.directory"),
    ("state_dir", "state.directory"),
    ("spool.directory", "state.directory"),
];
/// Largest file of configuration, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Loads the configuration of `service` from the process's environment and the given flags.
///
/// # Errors
/// [`ConfigError`] names the key, its source and the remedy.
pub fn load<T: ServiceConfig>(service: &str, args: &ConfigArgs) -> Result<Loaded<T>, ConfigError> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("PLIMSOLL_"))
        .collect();
    load_from(service, args, &environment)
}

/// As [`load`], from a given environment.
///
/// # Errors
/// [`ConfigError`] names the key, its source and the remedy.
pub fn load_from<T: ServiceConfig>(
    service: &str,
    args: &ConfigArgs,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded<T>, ConfigError> {
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    let mut layers = Layers::<T> {
        known: leaves(&defaults),
        merged: Value::Object(Map::new()),
        sources: BTreeMap::new(),
        marker: std::marker::PhantomData,
    };
    if let Some((path, given_by)) = config_file(service, args, environment) {
        layers.add_file(&path, given_by)?;
    }
    let warnings = layers.add_environment(environment)?;
    for item in &args.set {
        let (key, text) = item.split_once('=').ok_or_else(|| ConfigError::MalformedSet(item.clone()))?;
        layers.add_text(key.trim(), text, Source::Flag)?;
    }
    layers.read_secret_files()?;
    let value = serde_json::from_value(layers.merged).map_err(|error| ConfigError::InvalidValue {
        key: service.to_owned(),
        origin: Source::Default,
        reason: error.to_string(),
    })?;
    Ok(Loaded { value, sources: layers.sources, warnings })
}

fn config_file(
    service: &str,
    args: &ConfigArgs,
    environment: &BTreeMap<String, String>,
) -> Option<(PathBuf, &'static str)> {
    if let Some(path) = &args.config {
        return Some((path.clone(), "--config"));
    }
    if let Some(path) = environment.get("PLIMSOLL_CONFIG").filter(|path| !path.is_empty()) {
        return Some((path.into(), "PLIMSOLL_CONFIG"));
    }
    let usual = PathBuf::from(format!("/etc/plimsoll/{service}.toml"));
    usual.exists().then_some((usual, "the default place"))
}

/// Reads a small text file, bounded.
fn read_bounded(path: &Path, given_by: &str) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::UnreadableFile {
        path: path.to_owned(),
        given_by: given_by.to_owned(),
        reason,
    };
    let size_bytes = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size_bytes > FILE_MAX_BYTES {
        return Err(unreadable(format!("{size_bytes} bytes are more than {FILE_MAX_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}

struct Layers<T> {
    /// Leaves of the default value.
    known: Vec<(String, Value)>,
    merged: Value,
    sources: BTreeMap<String, Source>,
    marker: std::marker::PhantomData<T>,
}

impl<T: ServiceConfig> Layers<T> {
    fn known_default(&self, key: &str) -> Option<&Value> {
        self.known.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The free map that `key` lies in.
    fn free_map(&self, key: &str) -> Option<&str> {
        self.known
            .iter()
            .filter(|(_, default)| default.as_object().is_some_and(Map::is_empty))
            .map(|(known, _)| known.as_str())
            .find(|known| key.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')))
    }

    fn unknown(&self, key: &str, origin: Source) -> ConfigError {
        if let Some(now) = renamed(key).filter(|now| self.known_default(now).is_some()) {
            return ConfigError::UnknownKey { key: key.to_owned(), origin, nearest: Some(now.to_owned()) };
        }
        let sections = self.known.iter().filter_map(|(known, _)| Some(known.rsplit_once('.')?.0));
        let nearest = nearest(key, self.known.iter().map(|(known, _)| known.as_str()).chain(sections));
        ConfigError::UnknownKey { key: key.to_owned(), origin, nearest }
    }

    fn add_file(&mut self, path: &Path, given_by: &str) -> Result<(), ConfigError> {
        let text = read_bounded(path, given_by)?;
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| ConfigError::UnreadableFile {
                path: path.to_owned(),
                given_by: given_by.to_owned(),
                reason: error.to_string().trim().to_owned(),
            })?;
        let tree = serde_json::to_value(table).map_err(|error| ConfigError::UnreadableFile {
            path: path.to_owned(),
            given_by: given_by.to_owned(),
            reason: error.to_string(),
        })?;
        self.add_tree("", &tree, &Source::File(path.to_owned()))
    }

    fn add_tree(&mut self, prefix: &str, value: &Value, source: &Source) -> Result<(), ConfigError> {
        let is_section = prefix.is_empty()
            || self
                .known
                .iter()
                .any(|(known, _)| known.strip_prefix(prefix).is_some_and(|r| r.starts_with('.')));
        match value {
            Value::Object(map) if is_section || self.known_default(prefix).is_some_and(Value::is_object) => {
                for (name, value) in map {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    self.add_tree(&key, value, source)?;
                }
                Ok(())
            }
            _ if is_section => Err(ConfigError::InvalidValue {
                key: prefix.to_owned(),
                origin: source.clone(),
                reason: "is a section, not a value".into(),
            }),
            _ => self.put(prefix, value.clone(), source.clone()),
        }
    }

    /// Returns warnings about variables that are no key of this service.
    fn add_environment(
        &mut self,
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, ConfigError> {
        let names: BTreeMap<String, String> =
            self.known.iter().map(|(key, _)| (environment_name(key), key.clone())).collect();
        let mut warnings = Vec::new();
        for (name, text) in environment {
            if OTHER_VARIABLES.contains(&name.as_str()) || OTHER_PREFIXES.iter().any(|p| name.starts_with(p))
            {
                continue;
            }
            if let Some(key) = names.get(name) {
                self.add_text(key, text, Source::Environment(name.clone()))?;
                continue;
            }
            // One environment often serves several services, so only what looks like a slip is refused.
            let near = RENAMED
                .into_iter()
                .find(|(old, now)| environment_name(old) == *name && self.known_default(now).is_some())
                .map(|(_, now)| environment_name(now))
                .or_else(|| {
                    nearest(name, names.keys().map(String::as_str)).filter(|near| is_slip(name, near))
                });
            if near.is_some() {
                let origin = Source::Environment(name.clone());
                return Err(ConfigError::UnknownKey { key: name.clone(), origin, nearest: near });
            }
            warnings.push(format!("environment variable {name} is no key of this service; it is not used"));
        }
        Ok(warnings)
    }

    /// Adds a value given as text, read as the type that the key takes.
    fn add_text(&mut self, key: &str, text: &str, source: Source) -> Result<(), ConfigError> {
        let as_string = Value::String(text.to_owned());
        let default = match self.known_default(key) {
            Some(default) => default.clone(),
            None if self.free_map(key).is_some() => as_string.clone(),
            None => return Err(self.unknown(key, source)),
        };
        let typed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| as_string.clone());
        let value = match default {
            Value::Array(_) if !text.trim_start().starts_with('[') => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => typed(text),
            // An optional value: a string unless the key wants something else.
            Value::Null if self.accepts(key, &as_string).is_err() => typed(text),
            _ => as_string,
        };
        self.put(key, value, source)
    }

    /// Whether the struct takes this one value.
    fn accepts(&self, key: &str, value: &Value) -> Result<(), String> {
        let mut single = Value::Object(Map::new());
        insert(&mut single, self.path(key), value.clone());
        serde_json::from_value::<T>(single).map(|_| ()).map_err(|error| error.to_string())
    }

    /// A key's path; the rest after a free map is one name, dots included.
    fn path(&self, key: &str) -> Vec<String> {
        match self.free_map(key) {
            Some(map) => {
                let mut path: Vec<String> = map.split('.').map(str::to_owned).collect();
                path.push(key[map.len() + 1..].to_owned());
                path
            }
            None => key.split('.').map(str::to_owned).collect(),
        }
    }

    fn put(&mut self, key: &str, value: Value, source: Source) -> Result<(), ConfigError> {
        if self.known_default(key).is_none() && self.free_map(key).is_none() {
            return Err(self.unknown(key, source));
        }
        if let Err(reason) = self.accepts(key, &value) {
            return Err(ConfigError::InvalidValue { key: key.to_owned(), origin: source, reason });
        }
        let path = self.path(key);
        insert(&mut self.merged, path, value);
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }

    /// Reads each secret `x` whose sibling `x_file` is given.
    fn read_secret_files(&mut self) -> Result<(), ConfigError> {
        let pairs: Vec<(String, String)> = self
            .known
            .iter()
            .filter_map(|(key, _)| Some((key.clone(), key.strip_suffix("_file")?.to_owned())))
            .filter(|(_, secret)| self.known_default(secret).is_some())
            .collect();
        for (file_key, secret_key) in pairs {
            let Some(file_source) = self.sources.get(&file_key).cloned() else { continue };
            let pointer = format!("/{}", file_key.replace('.', "/"));
            let Some(path) = self.merged.pointer(&pointer).and_then(Value::as_str).map(PathBuf::from) else {
                continue;
            };
            if let Some(other) = self.sources.get(&secret_key) {
                return Err(ConfigError::InvalidValue {
                    key: file_key,
                    origin: file_source,
                    reason: format!("{secret_key} is given too (by {other}); give one of them"),
                });
            }
            let secret = read_bounded(&path, &file_key)?.trim_end_matches(['\r', '\n']).to_owned();
            self.put(&secret_key, Value::String(secret), Source::SecretFile(path))?;
        }
        Ok(())
    }
}

/// What a key of an earlier version is called now.
fn renamed(key: &str) -> Option<&'static str> {
    RENAMED.into_iter().find(|(old, _)| *old == key).map(|(_, now)| now)
}

/// Whether `name` is likely a misspelt `near`.
fn is_slip(name: &str, near: &str) -> bool {
    const SLIP_MAX_EDITS: usize = 2;
    edit_distance(name, near) <= SLIP_MAX_EDITS
}

fn insert(tree: &mut Value, path: Vec<String>, value: Value) {
    let mut node = tree;
    let mut names = path.into_iter().peekable();
    while let Some(name) = names.next() {
        if !node.is_object() {
            *node = Value::Object(Map::new());
        }
        let Value::Object(map) = node else { return };
        if names.peek().is_none() {
            map.insert(name, value);
            return;
        }
        node = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
}

#[cfg(test)]
mod tests;
