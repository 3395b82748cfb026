//! Makes a plugin from its crate with cargo, and puts it where the manifest looks for it.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a plugin is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quickly, for tests.
    Dev,
    /// With optimisations, to run.
    Release,
}

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no crate.
    #[error("no Cargo.toml in {}: correct `crate:` in the manifest", crate_dir.display())]
    NoCrate {
        /// Where it should be.
        crate_dir: PathBuf,
    },
    /// Cargo cannot be run.
    #[error("cannot run cargo: install Rust from https://rustup.rs")]
    NoCargo {
        /// Why.
        source: io::Error,
    },
    /// Cargo ended with errors; they stand on standard error.
    #[error("cargo could not build {}: its errors stand above", crate_dir.display())]
    Failed {
        /// The crate.
        crate_dir: PathBuf,
    },
    /// The crate makes no shared library.
    #[error("{} makes no shared library: put `crate-type = [\"cdylib\"]` under [lib] in its Cargo.toml", crate_dir.display())]
    NoLibrary {
        /// The crate.
        crate_dir: PathBuf,
    },
    /// The plugin cannot be put into its place.
    #[error("cannot put the plugin at {}", file.display())]
    NotPlaced {
        /// Where it should be.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs `cargo build` in `crate_dir` and puts the plugin at `out_file`. Cargo's progress and errors go
/// to standard error.
///
/// The file is written beside its place and renamed: one that is loaded is never overwritten.
pub fn build_crate(crate_dir: &Path, out_file: &Path, profile: Profile) -> Result<(), BuildError> {
    let manifest = crate_dir
        .join("Cargo.toml")
        .canonicalize()
        .map_err(|_| BuildError::NoCrate { crate_dir: crate_dir.to_owned() })?;
    let library = compile(crate_dir, &manifest, profile)?
        .ok_or_else(|| BuildError::NoLibrary { crate_dir: crate_dir.to_owned() })?;
    place(&library, out_file).map_err(|source| BuildError::NotPlaced { file: out_file.to_owned(), source })
}

/// Builds the crate of `manifest`; returns its shared library, if it makes one.
fn compile(crate_dir: &Path, manifest: &Path, profile: Profile) -> Result<Option<PathBuf>, BuildError> {
    // Cargo names itself to what it runs; otherwise the one in PATH.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--lib", "--message-format=json-render-diagnostics", "--manifest-path"]);
    command.arg(manifest);
    if profile == Profile::Release {
        command.arg("--release");
    }
    // In the crate's folder, so that its own toolchain file and cargo configuration count.
    command.current_dir(crate_dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|source| BuildError::NoCargo { source })?;
    let output = child.stdout.take().expect("standard output is piped");
    let mut library = None;
    for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
        library = library_in(&line, manifest).or(library);
    }
    let status = child.wait().map_err(|source| BuildError::NoCargo { source })?;
    if status.success() { Ok(library) } else { Err(BuildError::Failed { crate_dir: crate_dir.to_owned() }) }
}

/// The shared library that a line of cargo's output tells of, if it is that of `manifest`.
fn library_in(line: &[u8], manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let is_artifact = message["reason"] == "compiler-artifact";
    let is_ours = message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
    if !is_artifact || !is_ours {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let library =
        files.iter().filter_map(Value::as_str).find(|file| file.ends_with(std::env::consts::DLL_SUFFIX))?;
    Some(PathBuf::from(library))
}

fn place(library: &Path, out_file: &Path) -> io::Result<()> {
    let folder = out_file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    std::fs::copy(library, temporary.path())?;
    temporary.persist(out_file).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_the_crate_is_found_among_cargos_messages() {
        let file = format!("/t/release/libecho{}", std::env::consts::DLL_SUFFIX);
        let line = |reason: &str, manifest: &str| {
            serde_json::json!({ "reason": reason, "manifest_path": manifest, "filenames": ["/t/libecho.rlib", file] })
                .to_string()
        };
        let found = |line: &str| library_in(line.as_bytes(), Path::new("/c/Cargo.toml"));
        assert_eq!(found(&line("compiler-artifact", "/c/Cargo.toml")), Some(PathBuf::from(&file)));
        assert_eq!(found(&line("compiler-artifact", "/other/Cargo.toml")), None);
        assert_eq!(found(&line("build-finished", "/c/Cargo.toml")), None);
        assert_eq!(found("no JSON"), None);
    }
}
