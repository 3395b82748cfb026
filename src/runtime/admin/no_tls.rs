//! In the place of `tls.rs` in a build without the feature `tls`: there is no certificate.

use tokio::net::TcpListener;

use super::AdminError;
use crate::manifest::TlsFiles;

/// What this build cannot have.
pub(super) enum Certificate {}

impl Certificate {
    /// Says so.
    pub(super) fn load(_: &TlsFiles) -> Result<Self, AdminError> {
        Err(AdminError::Tls("TLS is no part of this build: build with `--features tls`".to_owned()))
    }

    /// Never comes to it.
    pub(super) fn listen(self, _: TcpListener) -> TcpListener {
        match self {}
    }
}
