//! A loaded plugin: the library, its tables checked, its handlers by name.

use std::ffi::c_void;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use tidemill_abi as abi;

use super::file::PluginFile;
use super::{Instance, PluginError};
use crate::model::FunctionName;

/// A loaded plugin.
///
/// It is never unloaded: a library that has thread-locals does not leave anyway, threads that the
/// author started would run into unmapped code, and instances hold its tables. A new version is a new
/// library beside the old one; the price is the memory of each version loaded while the process runs.
pub struct Plugin {
    file: PathBuf,
    sha256: String,
    made_with: String,
    handlers: Vec<(String, Entry)>,
}

/// The functions of one handler: a checked [`abi::Handler`].
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub init: unsafe extern "C" fn(*const abi::Setup, *mut *mut c_void) -> i32,
    pub handle: unsafe extern "C" fn(*mut c_void, *const abi::Event, *const abi::Call) -> i32,
    pub drop: unsafe extern "C" fn(*mut c_void),
    pub on_window: Option<abi::OnWindowFn>,
    pub on_timer: Option<abi::OnTimerFn>,
}

/// More handlers than anybody writes by hand.
const MAX_HANDLERS: usize = 1024;

impl Plugin {
    /// Checks `file`, refuses it when its digest is not `sha256` (lower-case hex, if the manifest says one),
    /// copies it into `private_dir` (made for this user alone if it is not there) and loads the copy.
    ///
    /// Loading runs code of the library. The copy stays: the process maps it until it ends.
    pub fn load(file: &Path, sha256: Option<&str>, private_dir: &Path) -> Result<Self, PluginError> {
        let checked = PluginFile::read(file)?;
        if let Some(expected) = sha256 {
            checked.expect(expected)?;
        }
        let copy = checked.copy_to(private_dir)?;
        let not_loadable = |source| PluginError::NotLoadable { file: file.to_owned(), source };
        // RTLD_NOW: a missing symbol shows here, not in the middle of a call. RTLD_LOCAL: two versions
        // of a plugin have the same names.
        // SAFETY: the file was checked to be a whole library of this system; its constructors are the
        // author's code, which runs by the user's wish.
        let library = unsafe { Library::open(Some(&copy), RTLD_NOW | RTLD_LOCAL) }.map_err(not_loadable)?;
        // SAFETY: by the contract the symbol is a function of this type.
        let symbol = unsafe { library.get::<abi::PluginFn>(abi::SYMBOL) }.map_err(not_loadable)?;
        // SAFETY: by the contract it takes nothing and returns a table or null.
        let table = unsafe { symbol() };
        // Dropping the library would unload it.
        std::mem::forget(library);
        let (made_with, handlers) = read(file, table)?;
        Ok(Self { file: file.to_owned(), sha256: checked.sha256().to_owned(), made_with, handlers })
    }

    /// The file it was loaded from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The digest of the file as it was loaded, lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What the author made it with: `tidemill-sdk 0.1.0`.
    pub fn made_with(&self) -> &str {
        &self.made_with
    }

    /// The names of its handlers, in the author's order.
    pub fn handlers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.handlers.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the handler that the manifest's `entry` means: the only one when it is left out.
    pub fn entry(&self, entry: Option<&str>) -> Result<&str, PluginError> {
        self.find(entry).map(|(name, _)| name.as_str())
    }

    /// Refuses the handler `entry` (default: the only one) if it has no `on_window`, which a function's window calls.
    pub fn require_on_window(&self, entry: Option<&str>) -> Result<(), PluginError> {
        match self.find(entry)? {
            (_, Entry { on_window: Some(_), .. }) => Ok(()),
            (name, _) => Err(PluginError::NoOnWindow { file: self.file.clone(), handler: name.clone() }),
        }
    }

    /// Makes an instance of the handler `entry` (default: the only one) for `function`.
    pub fn instance(
        &self,
        function: &FunctionName,
        entry: Option<&str>,
        config: &serde_json::Value,
    ) -> Result<Instance, PluginError> {
        let (name, entry) = self.find(entry)?;
        Instance::start(*entry, function, name, config).map_err(|failure| PluginError::Init {
            function: function.clone(),
            file: self.file.clone(),
            handler: name.clone(),
            failure: Box::new(failure),
        })
    }

    fn find(&self, entry: Option<&str>) -> Result<&(String, Entry), PluginError> {
        let names = || self.handlers().map(str::to_owned).collect();
        match (entry, self.handlers.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(PluginError::EntryNeeded { file: self.file.clone(), handlers: names() }),
            (Some(entry), handlers) => handlers.iter().find(|(name, _)| name == entry).ok_or_else(|| {
                PluginError::NoEntry { file: self.file.clone(), entry: entry.to_owned(), handlers: names() }
            }),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("file", &self.file)
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

/// Reads the tables that a plugin returned: what it was made with, and its handlers.
fn read(file: &Path, table: *const abi::Plugin) -> Result<(String, Vec<(String, Entry)>), PluginError> {
    let broken = |detail: String| PluginError::BrokenTable { file: file.to_owned(), detail };
    check_head(file, "the plugin's table", table, size_of::<abi::Plugin>())?;
    // SAFETY: aligned, of this version and at least this large; it lives as long as the process.
    let table: &'static abi::Plugin = unsafe { &*table };
    // SAFETY: by the contract text that lives as long as the process.
    let made_with = unsafe { table.made_with.bytes() }.map(String::from_utf8_lossy).unwrap_or_default();
    if table.handler_count == 0 || table.handler_count > MAX_HANDLERS {
        return Err(broken(format!("{} handlers", table.handler_count)));
    }
    if table.handlers.is_null() || !table.handlers.is_aligned() {
        return Err(broken("no list of handlers".to_owned()));
    }
    // SAFETY: by the contract that many pointers, alive as long as the process.
    let list = unsafe { std::slice::from_raw_parts(table.handlers, table.handler_count) };
    let mut handlers: Vec<(String, Entry)> = Vec::with_capacity(list.len());
    for (index, &handler) in list.iter().enumerate() {
        check_head(file, &format!("the table of handler {index}"), handler, abi::Handler::FIRST_SIZE)?;
        // SAFETY: aligned, of this version and at least this large; it lives as long as the process. No reference is
        // made: it may be shorter than the table as it is known here.
        let (name, init, handle, drop) =
            unsafe { ((*handler).name, (*handler).init, (*handler).handle, (*handler).drop) };
        // SAFETY: as above.
        let (on_window, on_timer) =
            unsafe { (abi::Handler::on_window(handler), abi::Handler::on_timer(handler)) };
        // SAFETY: by the contract text that lives as long as the process.
        let name = unsafe { name.bytes() }.and_then(|name| std::str::from_utf8(name).ok());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(broken(format!("handler {index} has no name in UTF-8")));
        };
        if handlers.iter().any(|(known, _)| known == name) {
            return Err(broken(format!("two handlers are called `{name}`")));
        }
        let (Some(init), Some(handle), Some(drop)) = (init, handle, drop) else {
            return Err(broken(format!("handler `{name}` lacks init, handle or drop")));
        };
        handlers.push((name.to_owned(), Entry { init, handle, drop, on_window, on_timer }));
    }
    Ok((made_with.into_owned(), handlers))
}

/// Refuses a table that is of another version or shorter than this version's first release had it. Every table begins
/// with its size and version, in all versions.
fn check_head<T>(file: &Path, what: &str, table: *const T, least: usize) -> Result<(), PluginError> {
    let broken = |detail: String| PluginError::BrokenTable { file: file.to_owned(), detail };
    if table.is_null() || !table.is_aligned() {
        return Err(broken(format!("{what} is missing")));
    }
    // SAFETY: not null and aligned for more than this; by the contract it begins with two numbers.
    let [size, version] = unsafe { *table.cast::<[u32; 2]>() };
    if version != abi::VERSION {
        return Err(PluginError::WrongAbi { file: file.to_owned(), theirs: version });
    }
    if (size as usize) < least {
        return Err(broken(format!("{what} has {size} bytes of at least {least}")));
    }
    Ok(())
}
