//! Which probes work here, and why the others do not.
//! It must never leave one out silently: each that does not work has a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_schemas::words::probe;

use crate::config::{AgentConfig, UseEbpf};
use crate::ebpf::{EbpfConfig, EbpfError, Kernel};
use crate::engine::register_running;
use crate::{hooks, procfs};

/// Which probes work here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Those at work.
    pub active: Vec<&'static str>,
    /// Those that are not, with the reason and the remedy.
    pub unavailable: BTreeMap<String, String>,
}

/// Why a hook is not used where eBPF is, and what to do about packages that only the hook sees.
fn instead_of(hook: &str) -> &'static str {
    match hook {
        probe::NODE_MODULE => {
            "ebpf-files watches instead, which sees more, but not which modules of an archive (yarn), nor whether \
             settings (tsconfig.json) were loaded; run it once with --no-ebpf, outside of a container"
        }
        probe::PYTHON_IMPORT => {
            "ebpf-files watches instead, which sees more, but not which modules of a ZIP archive were loaded; run it \
             once with --no-ebpf, outside of a container"
        }
        _ => "not needed: ebpf-files sees more",
    }
}

/// Loads the eBPF programs, as far as the configuration wants and the kernel takes them.
///
/// # Errors
/// Why they cannot be loaded where they must be.
pub fn open_kernel(config: &AgentConfig) -> Result<(Option<Arc<Kernel>>, Probes), EbpfError> {
    let mut probes = Probes::default();
    let opened = match config.ebpf {
        UseEbpf::Off => Err("eBPF is switched off; run it once as root and without --no-ebpf".to_owned()),
        UseEbpf::Required => Ok(load(config)?),
        UseEbpf::Preferred => load(config).map_err(|error| error.to_string()),
    };
    match opened {
        Ok(kernel) => {
            probes.active.push(probe::EBPF_FILES);
            probes.active.push(probe::RESYNC);
            for part in kernel.missing() {
                probes
                    .unavailable
                    .insert(format!("{}:{}", probe::EBPF_FILES, part.program), part.consequence.clone());
            }
            for hook in hooks::probes() {
                probes.unavailable.insert(hook.to_owned(), instead_of(hook).to_owned());
            }
            Ok((Some(Arc::new(kernel)), probes))
        }
        Err(reason) => {
            probes.active.extend(hooks::probes());
            probes.unavailable.insert(probe::EBPF_FILES.to_owned(), reason);
            Ok((None, probes))
        }
    }
}

fn load(config: &AgentConfig) -> Result<Kernel, EbpfError> {
    let mut kernel = Kernel::open(&EbpfConfig {
        watch_containers: config.watch_containers,
        epoch: config.epoch,
        ring_bytes: config.ring_bytes,
        pins: config.pins.clone(),
    })?;
    if !kernel.was_pinned() {
        if config.watch_containers {
            register_running(&kernel, 0);
        }
        kernel.attach()?;
        if config.watch_containers {
            // Those that started between the look and the attach.
            register_running(&kernel, procfs::since_boot_ns());
        }
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::language::Language;

    /// The correlator takes what stands after the last semicolon for what to do.
    #[test]
    fn who_misses_a_probe_is_told_what_to_do() {
        for language in Language::ALL {
            let reason = instead_of(language.probe());
            let sees_all = matches!(language, Language::Ruby | Language::Php);
            match reason.rsplit_once("; ") {
                Some((_, remedy)) => {
                    assert!(!sees_all && remedy.contains("--no-ebpf"), "{language:?}: {reason}")
                }
                None => assert!(sees_all && reason.starts_with("not needed"), "{language:?}: {reason}"),
            }
        }
        let config = AgentConfig { ebpf: UseEbpf::Off, ..AgentConfig::new("machine", "machine") };
        let (kernel, probes) = open_kernel(&config).unwrap();
        assert!(kernel.is_none());
        let (why, remedy) = probes.unavailable[probe::EBPF_FILES].rsplit_once("; ").unwrap();
        assert_eq!((why, remedy), ("eBPF is switched off", "run it once as root and without --no-ebpf"));
    }
}
