//! Gives up all rights that resolving does not need, before any other thread exists.
//! Never fails a start: a process that had few rights to begin with only has fewer.
//!
//! What is left: CAP_DAC_READ_SEARCH, to read package databases and files of any owner; the socket's directory; and
//! the connection to the broker. No new rights by set-uid programs.

use rustix::thread::{CapabilitySet, CapabilitySets};

/// The only capability that is kept, where it was there.
const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// See the module's documentation. Returns what could not be given up, for the log.
pub fn drop_to_least() -> Vec<String> {
    let mut failed = Vec::new();
    let mut note = |what: &str, result: rustix::io::Result<()>| {
        if let Err(error) = result {
            failed.push(format!("{what}: {error}"));
        }
    };
    note("no new privileges", rustix::thread::set_no_new_privs(true));
    // EINVAL: the kernel has no ambient set; EPERM below: CAP_SETPCAP is not there, and then little else is.
    let _ = rustix::thread::clear_ambient_capability_set();
    for bit in 0..64_u32 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if capability != KEPT
            && let Ok(true) = rustix::thread::capability_is_in_bounding_set(capability)
        {
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
    match rustix::thread::capabilities(None) {
        Ok(held) => {
            let kept = held.permitted & KEPT;
            let least =
                CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
            note("capabilities", rustix::thread::set_capabilities(None, least));
        }
        Err(error) => note("capabilities", Err(error)),
    }
    failed
}

/// Raises the bound on open descriptors to what the system allows, since each root takes some.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A lower bound only means fewer roots, which `open` reports.
    let _ = setrlimit(Resource::Nofile, limit);
}
