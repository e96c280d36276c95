//! Layers, their order, and what is refused.
//! They never read the process's own environment.

use serde::{Deserialize, Serialize};

use super::*;
use crate::config::{AdminConfig, KafkaConfig, TelemetryConfig};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct TestConfig {
    kafka: KafkaConfig,
    telemetry: TelemetryConfig,
    admin: AdminConfig,
    batch_max_records: u32,
    flush_interval_ms: Option<u64>,
    verbose: bool,
}
crate::service_config!(TestConfig);

struct Case {
    directory: tempfile::TempDir,
    args: ConfigArgs,
    environment: BTreeMap<String, String>,
}

impl Case {
    fn new(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.toml");
        std::fs::write(&path, file).unwrap();
        std::fs::write(directory.path().join("secret"), "from file\n").unwrap();
        let here = directory.path().to_str().unwrap().to_owned();
        Self {
            directory,
            args: ConfigArgs {
                config: Some(path),
                set: set.iter().map(|s| s.replace("DIR", &here)).collect(),
                print_config: false,
            },
            environment: environment.iter().map(|(k, v)| ((*k).into(), v.replace("DIR", &here))).collect(),
        }
    }
    fn load(&self) -> Result<Loaded<TestConfig>, ConfigError> {
        load_from("test", &self.args, &self.environment)
    }
}

#[test]
fn later_sources_win() {
    let file = "batch_max_records = 1\nverbose = true\n[kafka]\nbrokers = ['file:1']\ntopic_prefix = 'f'\nclient = { 'queued.min.messages' = '7' }\n";
    let environment = [
        ("PLIMSOLL_KAFKA_BROKERS", "env:1, env:2"),
        ("PLIMSOLL_BATCH_MAX_RECORDS", "2"),
        ("PLIMSOLL_FLUSH_INTERVAL_MS", "250"),
        ("PLIMSOLL_TEST_KAFKA", "not ours"),
        ("PLIMSOLL_CLICKHOUSE_URL", "another service's"),
    ];
    let set = ["batch_max_records=3", "kafka.client.linger.ms=9", "kafka.security_protocol=sasl_ssl"];
    let loaded = Case::new(file, &environment, &set).load().unwrap();
    let value = &loaded.value;
    assert_eq!(value.kafka.brokers, ["env:1", "env:2"]);
    assert_eq!((value.batch_max_records, value.flush_interval_ms, value.verbose), (3, Some(250), true));
    assert_eq!(value.kafka.topic_prefix, "f");
    assert!(value.kafka.security_protocol.uses_tls());
    assert_eq!(value.kafka.client["queued.min.messages"], "7");
    assert_eq!(value.kafka.client["linger.ms"], "9");
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    let text = loaded.print();
    for line in [
        "batch_max_records = 3  # flag --set",
        "kafka.brokers = [\"env:1\",\"env:2\"]  # environment PLIMSOLL_KAFKA_BROKERS",
        "kafka.request_timeout_ms = 10000  # default",
        "kafka.replication_factor # unset  # default",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} missing in:\n{text}");
    }
    assert!(text.contains("kafka.topic_prefix = \"f\"  # file "), "{text}");
}

#[test]
fn secrets_come_from_files_and_stay_hidden() {
    let case =
        Case::new("[kafka.sasl]\npassword_file = 'nowhere'\n", &[], &["kafka.sasl.password_file=DIR/secret"]);
    let loaded = case.load().unwrap();
    assert_eq!(loaded.value.kafka.sasl.password.as_ref().unwrap().expose(), "from file");
    let text = loaded.print() + &format!("{:?}", loaded.value);
    assert!(!text.contains("from file"), "{text}");
    assert!(text.contains("kafka.sasl.password = \"<hidden>\"  # secret file "), "{text}");
    assert!(case.directory.path().exists());
}

#[test]
fn names_of_earlier_versions_are_refused_with_the_new_one() {
    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Docker {
        host: Option<String>,
    }
    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Renamed {
        telemetry: TelemetryConfig,
        admin: AdminConfig,
        docker: Docker,
        state: crate::config::StateConfig,
    }
    crate::service_config!(Renamed);
    for (old, now) in RENAMED {
        let set = Case::new("", &[], &[&format!("{old}=x")]);
        let error = load_from::<Renamed>("test", &set.args, &set.environment).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown key {old}; did you mean {now}?")), "{error}");
        let (old, now) = (environment_name(old), environment_name(now));
        // An earlier key may be written as the new one is in the environment.
        if old == now {
            continue;
        }
        let given = Case::new("", &[(&old, "x")], &[]);
        let error = load_from::<Renamed>("test", &given.args, &given.environment).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown key {old}; did you mean {now}?")), "{error}");
    }
    // A service that has no such key only says that it does not use it.
    let other = Case::new("", &[("PLIMSOLL_DOCKER_ENDPOINT", "x")], &[]).load().unwrap();
    assert_eq!(other.warnings.len(), 1, "{:?}", other.warnings);
}

#[test]
fn mistakes_are_named() {
    fn check(file: &str, environment: &[(&str, &str)], set: &[&str], expect: &[&str]) {
        let error = Case::new(file, environment, set).load().unwrap_err().to_string();
        for part in expect {
            assert!(error.contains(part), "{part} missing in: {error}");
        }
    }
    check(
        "[kafka]\nbroker = 'x'",
        &[],
        &[],
        &["test.toml", "unknown key kafka.broker", "did you mean kafka.brokers?"],
    );
    check("[kafak]\nbrokers = ['x']", &[], &[], &["unknown key kafak", "did you mean kafka?"]);
    check("kafka = 3", &[], &[], &["kafka", "is a section"]);
    check("= 3", &[], &[], &["cannot read", "test.toml", "--config"]);
    check("batch_max_records = 'many'", &[], &[], &["batch_max_records", "test.toml", "invalid type"]);
    check("batch_max_records = -1", &[], &[], &["batch_max_records", "invalid value"]);
    check(
        "",
        &[("PLIMSOLL_KAFKA_BROKER", "x")],
        &[],
        &["PLIMSOLL_KAFKA_BROKER;", "did you mean PLIMSOLL_KAFKA_BROKERS?"],
    );
    check(
        "",
        &[("PLIMSOLL_FLUSH_INTERVAL_MS", "soon")],
        &[],
        &["environment PLIMSOLL_FLUSH_INTERVAL_MS", "flush_interval_ms"],
    );
    check("", &[], &["kafka.brokers"], &["--set kafka.brokers", "KEY=VALUE"]);
    check(
        "",
        &[],
        &["kafka.security_protocol=tls"],
        &["kafka.security_protocol", "unknown variant", "sasl_ssl"],
    );
    check(
        "",
        &[],
        &["kafka.sasl.password_file=DIR/none"],
        &["cannot read", "none", "kafka.sasl.password_file"],
    );
    check("", &[], &["kafka.sasl.password=x", "kafka.sasl.password_file=DIR/secret"], &["give one of them"]);
}
