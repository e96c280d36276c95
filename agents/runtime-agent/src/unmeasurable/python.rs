//! Programs that carry Python and its packages inside them, and packages that unpacked themselves where no scan looks.
//! It must never take an interpreter for such a program.

use super::Unmeasurable;
use super::elf::Elf;
use crate::sweep::{base_name, is_python};

/// Section in which PyInstaller's programs keep their modules (PyInstaller/building/api.py).
const PYINSTALLER_SECTION: &[u8] = b"pydata";
/// Symbol that each program with CPython linked into it offers to extension modules.
const PYTHON_SYMBOL: &str = "PyModule_Create2";
/// Digits of the build's id in the name of a directory that shiv unpacks to.
const SHIV_ID_DIGITS: usize = 64;

fn unmeasurable(reason: String) -> Unmeasurable {
    Unmeasurable { ecosystem: "pypi", reason }
}

/// What a mapped or opened file's path gives away.
pub fn of_path(path: &[u8]) -> Option<Unmeasurable> {
    let place = || String::from_utf8_lossy(path);
    if let Some(tool) = unpacked_by(path) {
        return Some(unmeasurable(format!(
            "a program made by {tool} ran packages that it had unpacked (/{}), which no scan lists; unpack it into the \
             component's directory (PEX_ROOT, SHIV_ROOT), and scan that before running it",
            place()
        )));
    }
    if is_bytecode_elsewhere(path) {
        return Some(unmeasurable(format!(
            "Python read its bytecode from a directory of its own (/{}), which does not tell whose it is; run the \
             application without PYTHONPYCACHEPREFIX under observation",
            place()
        )));
    }
    let tool = match () {
        () if path.split(|byte| *byte == b'/').any(is_pyinstaller_directory) => "PyInstaller",
        () if path.ends_with(b"/_internal/base_library.zip") => "PyInstaller",
        () if path.ends_with(b"lib/library.dat") => "cx_Freeze",
        () => return None,
    };
    Some(unmeasurable(format!(
        "a program made by {tool} ran (/{}): its Python modules are inside the program, where no probe sees them; run \
         the application from installed packages under observation",
        place()
    )))
}

/// `six.cpython-311.pyc` that lies in no `__pycache__`, as PEP 3147 has it: it lies where PYTHONPYCACHEPREFIX says.
fn is_bytecode_elsewhere(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|byte| *byte == b'/');
    let (name, directory) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let tagged = [&b".cpython-"[..], b".pypy", b".graalpy"];
    name.ends_with(b".pyc")
        && directory != b"__pycache__"
        && tagged.iter().any(|tag| memchr::memmem::find(name, tag).is_some())
}

/// `_MEIab12Cd`: where a program of PyInstaller unpacks itself.
fn is_pyinstaller_directory(name: &[u8]) -> bool {
    name.strip_prefix(b"_MEI")
        .is_some_and(|rest| rest.len() >= 5 && rest.iter().all(u8::is_ascii_alphanumeric))
}

/// The tool whose programs unpack to such a place: `.cache/pex/installed_wheels/…`, `.shiv/NAME_ID/site-packages/…`.
fn unpacked_by(path: &[u8]) -> Option<&'static str> {
    let mut before: &[u8] = b"";
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"installed_wheels" | b"unzipped_pexes" => return Some("PEX"),
            b"venvs" if matches!(before, b"pex" | b".pex") => return Some("PEX"),
            b"site-packages" if is_shiv_directory(before) => return Some("shiv"),
            _ => before = part,
        }
    }
    None
}

fn is_shiv_directory(name: &[u8]) -> bool {
    let Some(at) = name.len().checked_sub(SHIV_ID_DIGITS + 1) else { return false };
    name[at] == b'_' && name[at + 1..].iter().all(u8::is_ascii_hexdigit)
}

/// What a program's tables give away.
pub(super) fn of_program(program: &Elf<'_>, path: &[u8]) -> Option<Unmeasurable> {
    let place = String::from_utf8_lossy(path);
    if program.has_section(PYINSTALLER_SECTION) {
        return Some(unmeasurable(format!(
            "/{place} was made by PyInstaller: its Python modules are inside it, where no probe sees them; run the \
             application from installed packages under observation"
        )));
    }
    let carries = !is_python(&base_name(path)) && program.offers(PYTHON_SYMBOL);
    carries.then(|| {
        unmeasurable(format!(
            "/{place} has Python linked into it (cx_Freeze, Nuitka, PyOxidizer), and may carry the packages too, where \
             no probe sees them; run the application from installed packages under observation"
        ))
    })
}

/// A program that mapped Python's library and read none of its modules: each interpreter reads `encodings` first.
pub fn without_modules(program: &str) -> Unmeasurable {
    unmeasurable(format!(
        "/{program} carries Python as a library, and no file of Python's own modules was read: the modules are inside \
         the program (Nuitka) or in an archive, where no probe sees them; run the application from installed packages \
         under observation"
    ))
}

/// Whether an interpreter that opens this file has started from files.
pub fn is_first_module(path: &[u8]) -> bool {
    memchr::memmem::find(path, b"/encodings/").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_give_frozen_programs_away() {
        let id = "baeadde4fe97d3d0fd9f958449ec580fd346f399b0b46bec11007e9217f9a310";
        let shiv = format!("root/.shiv/app_{id}/site-packages/six.py");
        let other = format!("root/app_{id}/data/site-packages/six.py");
        for (path, expected) in [
            ("tmp/_MEIab12Cd/libpython3.11.so.1.0", Some("PyInstaller")),
            ("tmp/_MEI/x", None),
            ("opt/app/_internal/base_library.zip", Some("PyInstaller")),
            ("opt/app/base_library.zip", None),
            ("srv/_MEI-notes/x.py", None),
            ("opt/app/lib/library.dat", Some("cx_Freeze")),
            ("root/.cache/pex/installed_wheels/0/ab/six-1.16.0-py2.py3-none-any.whl/six.py", Some("PEX")),
            ("root/.pex/unzipped_pexes/1/ab/app.py", Some("PEX")),
            ("root/.pex/venvs/ab/cd/lib/python3.11/site-packages/six.py", Some("PEX")),
            ("home/me/venvs/a/lib/python3.11/site-packages/six.py", None),
            ("var/cache/usr/lib/python3/dist-packages/six.cpython-311.pyc", Some("PYTHONPYCACHEPREFIX")),
            ("usr/lib/python3/dist-packages/__pycache__/six.cpython-311.pyc", None),
            ("app/six.pyc", None),
            (shiv.as_str(), Some("shiv")),
            (other.as_str(), None),
        ] {
            let found = of_path(path.as_bytes()).map(|found| found.reason);
            let says = |tool: &str| found.as_ref().is_some_and(|reason| reason.contains(tool));
            assert_eq!(found.is_some(), expected.is_some(), "{path}: {found:?}");
            assert!(expected.is_none_or(says), "{path}: {found:?}");
        }
    }

    #[test]
    fn first_modules() {
        for (path, expected) in [
            ("usr/lib/python3.11/encodings/__pycache__/__init__.cpython-311.pyc", true),
            ("usr/lib/python3.11/encodings/__init__.py", true),
            ("opt/app/encodings.so", false),
            ("usr/lib/python311.zip", false),
        ] {
            assert_eq!(is_first_module(path.as_bytes()), expected, "{path}");
        }
    }
}
