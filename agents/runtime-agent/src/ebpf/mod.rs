//! The eBPF side of the agent: loading, pinning, the ring buffer, and the maps behind plain calls.
//! It must never decide what an event means; that is the core's.

pub mod event;
#[cfg(with_ebpf)]
mod kernel;
#[cfg(with_ebpf)]
mod load;
#[cfg(with_ebpf)]
mod maps;
#[cfg(with_ebpf)]
mod pins;
#[cfg(with_ebpf)]
mod ring;
pub mod wire;
#[cfg(not(with_ebpf))]
mod without;

use std::path::PathBuf;
use std::time::Duration;

#[cfg(with_ebpf)]
pub use kernel::{ExecWaiter, Kernel};
#[cfg(not(with_ebpf))]
pub use without::{ExecWaiter, Kernel};

/// Why eBPF does not observe here.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    /// The agent was built without.
    #[error("this agent was built without eBPF (PLIMSOLL_WITHOUT_EBPF=1); build it with clang to have it")]
    BuiltWithout,
    /// The kernel does not describe its types.
    #[error(
        "/sys/kernel/btf/vmlinux is missing: the kernel needs CONFIG_DEBUG_INFO_BTF (Linux 5.17 or newer)"
    )]
    NoBtf,
    /// Process ids here are not the kernel's.
    #[error("eBPF counts processes as the host does: run in the host's pid namespace (hostPID, --pid=host)")]
    PidNamespace,
    /// No rights.
    #[error("eBPF needs CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (or root): {0}")]
    NotPermitted(String),
    /// The kernel refused a program or a map.
    #[error("the kernel refused the eBPF programs ({0}); Linux 5.17 or newer with BTF is needed")]
    Load(String),
    /// Pins could not be made or read.
    #[error("pinning below {path}: {reason}; is bpffs mounted (mount -t bpf bpf /sys/fs/bpf)?")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another agent holds the pins.
    #[error("another agent of instance {0} is running; stop it, or choose another ebpf.instance")]
    InUse(String),
}

/// How to load.
#[derive(Clone, Debug)]
pub struct EbpfConfig {
    /// Watch containers wherever they start; otherwise only registered process trees.
    pub watch_containers: bool,
    /// A key is reported once per this span.
    pub epoch: Duration,
    /// Size of the ring buffer in bytes, a power of two of at least a page.
    pub ring_bytes: u32,
    /// Pin below this directory, to go on observing while the agent restarts; `None`: gone with the agent.
    pub pins: Option<PinConfig>,
}

/// Where to pin.
#[derive(Clone, Debug)]
pub struct PinConfig {
    /// A directory on bpffs.
    pub root: PathBuf,
    /// Name of this agent on this host; its directory below the root.
    pub instance: String,
}

/// Part of the programs that this kernel does not take, and what is therefore not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPart {
    /// Name of the program.
    pub program: String,
    /// What is not seen, for people.
    pub consequence: String,
}

/// Removes all pins of an instance: its programs end.
///
/// # Errors
/// If an agent of this instance runs, or bpffs cannot be used.
pub fn remove_pins(config: &PinConfig) -> Result<(), EbpfError> {
    #[cfg(with_ebpf)]
    pins::Pins::open(config, "")?.remove();
    #[cfg(not(with_ebpf))]
    tracing::info!(instance = config.instance, "an agent without eBPF has no pins");
    Ok(())
}
