//! Why a plugin cannot be used, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::model::{Failure, FunctionName};

/// Why a plugin cannot be used. Each names the file; the cause is the error's source.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file cannot be read.
    #[error("cannot read the plugin {}: make it with `tidemill build`, or correct `plugin:` in the manifest", file.display())]
    Unreadable {
        /// The plugin.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no library of this system.
    #[error("{}: not a shared library of this system ({detail}): make it with `tidemill build`", file.display())]
    NotALibrary {
        /// The plugin.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file ends before its own headers say.
    #[error("{}: cut off: its headers tell of {needed} bytes, there are {present}: copy or build it again", file.display())]
    CutOff {
        /// The plugin.
        file: PathBuf,
        /// How long it should be.
        needed: u64,
        /// How long it is.
        present: u64,
    },
    /// The file is for another processor.
    #[error("{}: built for {theirs}, this tidemill runs on {ours}: build it for {ours}", file.display())]
    WrongArchitecture {
        /// The plugin.
        file: PathBuf,
        /// What it was built for.
        theirs: String,
        /// What this is.
        ours: &'static str,
    },
    /// It is a library, but no plugin.
    #[error("{}: does not export `{symbol}`: a Rust plugin needs `tidemill_sdk::export!` and `crate-type = [\"cdylib\"]`", file.display(), symbol = tidemill_abi::SYMBOL)]
    NoSymbol {
        /// The plugin.
        file: PathBuf,
    },
    /// It is not the file that the manifest means.
    #[error("{}: has the sha256 {actual}, the manifest wants {expected}: put the right file there or change `sha256:`", file.display())]
    WrongDigest {
        /// The plugin.
        file: PathBuf,
        /// The manifest's digest.
        expected: String,
        /// The file's digest.
        actual: String,
    },
    /// The private copy cannot be written.
    #[error("cannot keep a private copy of the plugin in {}: make the folder writable", directory.display())]
    NoCopy {
        /// The folder for copies.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system's loader refuses it.
    #[error("{}: the system cannot load it: a library or symbol that it needs is missing, or its folder is mounted noexec", file.display())]
    NotLoadable {
        /// The plugin.
        file: PathBuf,
        /// What the loader says.
        source: libloading::Error,
    },
    /// It was built for another version of the contract.
    #[error("{}: built for ABI {theirs}, this tidemill speaks {ours}: rebuild with tidemill-sdk {sdk}", file.display(), ours = tidemill_abi::VERSION, sdk = env!("CARGO_PKG_VERSION"))]
    WrongAbi {
        /// The plugin.
        file: PathBuf,
        /// The version that it was built for.
        theirs: u32,
    },
    /// Its tables do not keep the contract.
    #[error("{}: its tables are broken ({detail}): rebuild with tidemill-sdk {sdk}, or compare with tidemill.h", file.display(), sdk = env!("CARGO_PKG_VERSION"))]
    BrokenTable {
        /// The plugin.
        file: PathBuf,
        /// What is wrong with them.
        detail: String,
    },
    /// The manifest's `entry` is not in it.
    #[error("{}: has no handler `{entry}`: `entry:` may be {}", file.display(), handlers.join(", "))]
    NoEntry {
        /// The plugin.
        file: PathBuf,
        /// What the manifest asks for.
        entry: String,
        /// What there is.
        handlers: Vec<String>,
    },
    /// The manifest does not say which handler.
    #[error("{}: has several handlers: choose with `entry:` among {}", file.display(), handlers.join(", "))]
    EntryNeeded {
        /// The plugin.
        file: PathBuf,
        /// What there is.
        handlers: Vec<String>,
    },
    /// The handler takes no windows.
    #[error("{}: its handler `{handler}` has no `on_window`, which the function's window calls: implement `tidemill_sdk::OnWindow` for it, or choose another with `entry:`", file.display())]
    NoOnWindow {
        /// The plugin.
        file: PathBuf,
        /// The handler.
        handler: String,
    },
    /// The handler refused to start.
    #[error("{function}: the handler `{handler}` of {} did not start: {}", file.display(), failure.message)]
    Init {
        /// The function.
        function: FunctionName,
        /// The plugin.
        file: PathBuf,
        /// The handler.
        handler: String,
        /// Why; a retry may go well later.
        failure: Box<Failure>,
    },
}
