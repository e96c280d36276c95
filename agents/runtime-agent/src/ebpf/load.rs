//! The compiled programs, and what of them this kernel takes.
//! It must never load a part that only pretends to observe: what is refused is named with what is then not seen.

use libbpf_rs::ObjectBuilder;

use super::wire::{Plain as _, Settings};
use super::{EbpfError, MissingPart};
use crate::procfs;

static TYPED_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/typed.bpf.o"));
static PLAIN_OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/plain.bpf.o"));

/// Programs that may be missing, with what is then not seen.
pub const OPTIONAL: [(&str, &str); 3] = [
    ("on_io_uring", "files opened through io_uring are not measured"),
    ("resync_files", "files that were open before watching began are not measured"),
    ("resync_mappings", "what was mapped before watching began is read from /proc instead"),
];
/// What tells one build of the programs from another.
pub fn objects() -> [&'static [u8]; 2] {
    [TYPED_OBJECT, PLAIN_OBJECT]
}

/// Loads the object that reads kernel structures fastest, else the one that reads them on every kernel.
pub fn load(
    settings: &Settings,
    ring_bytes: u32,
) -> Result<(libbpf_rs::Object, Vec<&'static str>), EbpfError> {
    match load_object(TYPED_OBJECT, settings, ring_bytes) {
        Err(EbpfError::Load(error)) => {
            tracing::debug!(error, "this kernel does not take typed pointers: reading field by field");
            load_object(PLAIN_OBJECT, settings, ring_bytes)
        }
        result => result,
    }
}

/// Loads an object, giving up optional programs one after the other.
fn load_object(
    bytes: &[u8],
    settings: &Settings,
    ring_bytes: u32,
) -> Result<(libbpf_rs::Object, Vec<&'static str>), EbpfError> {
    let mut refused = Vec::new();
    loop {
        let load = || {
            let mut open = ObjectBuilder::default().name("plimsoll")?.open_memory(bytes)?;
            for mut map in open.maps_mut() {
                if map.name() == ".rodata.settings" {
                    map.set_initial_value(settings.bytes())?;
                }
                if map.name() == "events" {
                    map.set_max_entries(ring_bytes)?;
                }
            }
            for mut program in open.progs_mut() {
                if refused.iter().any(|name| program.name() == *name) {
                    program.set_autoload(false);
                }
            }
            open.load()
        };
        match load() {
            Ok(object) => return Ok((object, refused)),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::PermissionDenied => {
                return Err(EbpfError::NotPermitted(error.to_string()));
            }
            Err(error) => match OPTIONAL.get(refused.len()) {
                Some((name, _)) => refused.push(*name),
                None => return Err(EbpfError::Load(format!("{error:#}"))),
            },
        }
    }
}

/// The optional programs that `has` does not know.
pub fn missing_of(has: impl Fn(&str) -> bool) -> Vec<MissingPart> {
    OPTIONAL
        .iter()
        .filter(|(name, _)| !has(name))
        .map(|(name, consequence)| MissingPart {
            program: (*name).to_owned(),
            consequence: (*consequence).to_owned(),
        })
        .collect()
}

/// Index of the cgroup v1 controller that names containers; -1 where cgroup v2 does.
pub fn cgroup_controller() -> i32 {
    let Some(controller) = procfs::cgroup_v1_controller() else { return -1 };
    let find = || {
        let btf = libbpf_rs::btf::Btf::from_vmlinux().ok()?;
        let ids: libbpf_rs::btf::types::Enum<'_> = btf.type_by_name("cgroup_subsys_id")?;
        let wanted = format!("{controller}_cgrp_id");
        let index = ids.iter().find(|id| id.name.is_some_and(|name| name == wanted.as_str()))?.value;
        i32::try_from(index).ok()
    };
    find().unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use libbpf_rs::btf::types::Struct;
    use libbpf_rs::btf::{Btf, HasSize as _};

    use super::super::wire::{EventHeader, Note, SeenKey, Settings, Tracked, WorkloadEntry};

    #[test]
    fn both_sides_have_the_same_structs() {
        for object in ["typed.bpf.o", "plain.bpf.o"] {
            let btf = Btf::from_path(std::path::Path::new(env!("OUT_DIR")).join(object)).unwrap();
            let size = |name: &str| {
                let found: Struct<'_> = btf.type_by_name(name).unwrap();
                found.size()
            };
            assert_eq!(size("settings"), size_of::<Settings>());
            assert_eq!(size("tracked"), size_of::<Tracked>());
            assert_eq!(size("workload"), size_of::<WorkloadEntry>());
            assert_eq!(size("note"), size_of::<Note>());
            assert_eq!(size("seen_key"), size_of::<SeenKey>());
            // The variable part: paths and arguments.
            assert_eq!(size("event"), size_of::<EventHeader>() + 8_192 + 1_024);
        }
    }
}
