//! The hooks' own files: what is written for each language, below a session's directory.
//! It must never write where an application's files are.

use std::fs;
use std::path::Path;

use super::session::{HookError, at, directory, permit};

/// Folder, name and text of every file.
const FILES: &[(&str, &str, &str)] = &[
    ("python", "sitecustomize.py", include_str!("../../../hooks/python/sitecustomize.py")),
    ("python", "import_hook.py", include_str!("../../../hooks/python/import_hook.py")),
    // Where the interpreter would write bytecode: a file in its place keeps it from doing so.
    ("python", "__pycache__", ""),
    ("node", "module_hook.cjs", include_str!("../../../hooks/node/module_hook.cjs")),
    ("node", "loader_hook.mjs", include_str!("../../../hooks/node/loader_hook.mjs")),
    ("ruby", "feature_hook.rb", include_str!("../../../hooks/ruby/feature_hook.rb")),
    ("php", "include_hook.php", include_str!("../../../hooks/php/include_hook.php")),
];
/// The file of settings that PHP reads, behind all others; `@` stands for the session's directory. What these set comes
/// first, so that the application's own file runs behind the hook.
const PHP_SETTINGS: (&str, &str) = (
    "php/plimsoll.ini",
    "plimsoll.own = ${auto_prepend_file}\nauto_prepend_file = \"@/php/include_hook.php\"\n",
);

/// Writes all of them.
///
/// # Errors
/// [`HookError::Directory`].
pub fn write_to(inner: &Path) -> Result<(), HookError> {
    let write = |path: &Path, text: &[u8]| at(path, fs::write(path, text).and_then(|()| permit(path, 0o644)));
    for (folder, name, text) in FILES {
        let folder = inner.join(folder);
        if !folder.exists() {
            directory(&folder, 0o755)?;
        }
        write(&folder.join(name), text.as_bytes())?;
    }
    let (name, text) = PHP_SETTINGS;
    write(&inner.join(name), text.replace('@', &inner.to_string_lossy()).as_bytes())
}
