//! A plugin's file: checked before the system's loader sees it, and copied to a private place.
//!
//! The loader maps what the headers say. Opening a cut-off file, and overwriting or truncating one that is
//! loaded, kills the process (SIGBUS, SIGSEGV). Opening the same path again returns the old code. So the
//! bytes are read once, checked, and loaded from a copy that is named by their digest and never changes.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use object::{Architecture, BinaryFormat, Object, ObjectKind, ObjectSection, ObjectSegment};
use sha2::{Digest, Sha256};

use super::PluginError;

/// A plugin's file, read whole and found to be one.
pub(super) struct PluginFile {
    file: PathBuf,
    bytes: Vec<u8>,
    sha256: String,
}

impl PluginFile {
    /// Reads and checks `file`.
    pub(super) fn read(file: &Path) -> Result<Self, PluginError> {
        let bytes =
            fs::read(file).map_err(|source| PluginError::Unreadable { file: file.to_owned(), source })?;
        check(file, &bytes)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(Self { file: file.to_owned(), bytes, sha256 })
    }

    /// The digest, lower-case hex.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Refuses the file unless its digest is `expected`.
    pub(super) fn expect(&self, expected: &str) -> Result<(), PluginError> {
        if self.sha256.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        Err(PluginError::WrongDigest {
            file: self.file.clone(),
            expected: expected.to_owned(),
            actual: self.sha256.clone(),
        })
    }

    /// Puts a copy named by the digest into `directory`, which is made for this user alone. A copy of
    /// the same content that is there already is used as it is.
    pub(super) fn copy_to(&self, directory: &Path) -> Result<PathBuf, PluginError> {
        let copy = directory.join(format!("{}{}", self.sha256, std::env::consts::DLL_SUFFIX));
        self.write(directory, &copy)
            .map_err(|source| PluginError::NoCopy { directory: directory.to_owned(), source })?;
        Ok(copy)
    }

    fn write(&self, directory: &Path, copy: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if fs::read(copy).is_ok_and(|there| there == self.bytes) {
            return Ok(());
        }
        // A name of its own first: whoever loads the copy sees it whole or not at all.
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        temporary.write_all(&self.bytes)?;
        temporary.persist(copy).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Refuses what the loader would choke on, and what is no plugin.
fn check(file: &Path, bytes: &[u8]) -> Result<(), PluginError> {
    let not_a_library = |detail: String| PluginError::NotALibrary { file: file.to_owned(), detail };
    if bytes.is_empty() {
        return Err(not_a_library("it is empty".to_owned()));
    }
    let present = bytes.len() as u64;
    let object = object::File::parse(bytes).map_err(|error| match section_table_end(bytes) {
        Some(needed) if needed > present => PluginError::CutOff { file: file.to_owned(), needed, present },
        _ => not_a_library(error.to_string().to_lowercase()),
    })?;
    let format = if cfg!(target_vendor = "apple") { BinaryFormat::MachO } else { BinaryFormat::Elf };
    if object.format() != format {
        return Err(not_a_library(format!("it is {:?}, not {format:?}", object.format())));
    }
    if object.kind() != ObjectKind::Dynamic {
        return Err(not_a_library(format!("it is of the kind {:?}", object.kind()).to_lowercase()));
    }
    if let Some(ours) = OUR_ARCHITECTURE
        && object.architecture() != ours
    {
        return Err(PluginError::WrongArchitecture {
            file: file.to_owned(),
            theirs: format!("{:?}", object.architecture()).to_lowercase(),
            ours: std::env::consts::ARCH,
        });
    }
    let segments = object.segments().map(|segment| segment.file_range());
    let sections = object.sections().filter_map(|section| section.file_range());
    let needed = segments
        .chain(sections)
        .map(|(start, length)| start.saturating_add(length))
        .chain(section_table_end(bytes))
        .max()
        .unwrap_or_default();
    if needed > present {
        return Err(PluginError::CutOff { file: file.to_owned(), needed, present });
    }
    let exports = object.exports().map_err(|error| not_a_library(error.to_string().to_lowercase()))?;
    // Mach-O puts an underscore before every name of C.
    let is_ours = |name: &[u8]| {
        let name = if format == BinaryFormat::MachO { name.strip_prefix(b"_").unwrap_or(name) } else { name };
        name == tidemill_abi::SYMBOL.as_bytes()
    };
    if !exports.iter().any(|export| is_ours(export.name())) {
        return Err(PluginError::NoSymbol { file: file.to_owned() });
    }
    Ok(())
}

/// The architecture that this process can load, where the check knows it.
const OUR_ARCHITECTURE: Option<Architecture> = if cfg!(target_arch = "x86_64") {
    Some(Architecture::X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(Architecture::Aarch64)
} else {
    None
};

/// Where the section table of a 64-bit little-endian ELF file ends: the last thing in files as
/// linkers write them, so a file that was cut off lacks it, and cannot be parsed for that very reason.
fn section_table_end(bytes: &[u8]) -> Option<u64> {
    if bytes.len() < 64 || !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let offset = u64::from_le_bytes(bytes[0x28..0x30].try_into().ok()?);
    let size = u16::from_le_bytes(bytes[0x3a..0x3c].try_into().ok()?);
    let count = u16::from_le_bytes(bytes[0x3c..0x3e].try_into().ok()?);
    offset.checked_add(u64::from(size) * u64::from(count))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
