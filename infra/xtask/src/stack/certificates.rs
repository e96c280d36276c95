//! Certificates of a throw-away authority for the development stack's encrypted listeners, made by openssl.
//! It never makes one that is valid for anything but this machine's loopback, nor keeps one over `down`.

use crate::run;
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};

/// Days that they are valid: a stack lives for hours.
const VALID_DAYS: &str = "30";
/// An elliptic key is made in milliseconds.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Files of one authority and what it signed.
pub struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes what is missing in a directory: `ca.pem`; `server.pem` (key and chain, for 127.0.0.1 by number only, so
    /// that a client which checks names refuses `localhost`); `client.pem` and `client.key`; `stranger.pem`, an
    /// authority that signed nothing.
    pub fn make(directory: &Path) -> anyhow::Result<Self> {
        let made = Self { directory: directory.to_owned() };
        if made.path("server.pem").exists() {
            return Ok(made);
        }
        fs::create_dir_all(directory)?;
        for (name, subject) in [("ca", "/CN=Plimsoll development"), ("stranger", "/CN=Stranger")] {
            made.openssl(&["-x509", "-subj", subject, "-addext", "keyUsage=keyCertSign"], name)?;
        }
        let signed = ["-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
        let server = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
        made.openssl(&[signed.as_slice(), &server].concat(), "broker")?;
        made.openssl(&[signed.as_slice(), &["-subj", "/CN=plimsoll"]].concat(), "client")?;
        // Kafka takes key and chain from one file.
        let read = |name: &str| fs::read_to_string(made.path(name)).context(name.to_owned());
        fs::write(made.path("server.pem"), read("broker.key")? + &read("broker.pem")?)?;
        Ok(made)
    }

    /// One of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn openssl(&self, arguments: &[&str], name: &str) -> anyhow::Result<()> {
        let mut openssl = run::command("openssl");
        openssl.current_dir(&self.directory).arg("req").args(KEY).args(["-days", VALID_DAYS]);
        openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]).args(arguments);
        run::output(&mut openssl).map(|_| ()).with_context(|| format!("cannot make the certificate {name}"))
    }
}
