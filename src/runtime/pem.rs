//! Certificates and keys as PEM files hold them, with what is wrong with a file.

use std::io;
use std::path::{Path, PathBuf};

use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It is not there, or not for this process.
    #[error("cannot read {}: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// Something else is in it.
    #[error("{} holds no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// Something else is in it, or what nobody is there to unlock.
    #[error("{} holds no private key in PEM, or one with a passphrase", .0.display())]
    NoKey(PathBuf),
}

/// The certificates in `file`, in order; at least one.
pub fn certificates(file: &Path) -> Result<Vec<X509>, PemError> {
    let found = X509::stack_from_pem(&read(file)?).unwrap_or_default();
    if found.is_empty() { Err(PemError::NoCertificate(file.to_owned())) } else { Ok(found) }
}

/// The private key in `file`.
pub fn private_key(file: &Path) -> Result<PKey<Private>, PemError> {
    // Without a callback OpenSSL would ask the terminal for a passphrase, and wait for it.
    PKey::private_key_from_pem_callback(&read(file)?, |_| Ok(0)).map_err(|_| PemError::NoKey(file.to_owned()))
}

fn read(file: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(file).map_err(|cause| PemError::Unreadable { file: file.to_owned(), cause })
}
