//! Which process this is: part of the transactional ids, the same after a restart, so that a restarted
//! process fences its dead self at once; and never the same for two that live, or they would fence
//! each other in turns.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// An instance id, held as long as this value lives.
#[derive(Debug)]
pub struct Instance {
    id: String,
    _lock: Option<File>,
}

/// No instance id could be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "the state directory {path} cannot be used: {cause}; set stateDir to a folder that this user may write"
)]
pub struct InstanceError {
    path: PathBuf,
    cause: std::io::Error,
}

impl Instance {
    /// The configured id, such as a StatefulSet pod's name: whoever configures it sees to it that it is
    /// nobody else's.
    pub fn configured(id: &str) -> Self {
        Self { id: id.to_owned(), _lock: None }
    }

    /// The first id of the state directory that no living process holds: `instance-0`, `instance-1`, … each is
    /// a file with a random id, locked while it is in use.
    pub fn of_state_dir(state_dir: &Path) -> Result<Self, InstanceError> {
        let error = |cause| InstanceError { path: state_dir.to_owned(), cause };
        fs::create_dir_all(state_dir).map_err(error)?;
        for number in 0.. {
            let path = state_dir.join(format!("instance-{number}"));
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(cause)) => return Err(error(cause)),
            }
            let known = fs::read_to_string(&path).map_err(error)?;
            let id = match known.trim() {
                "" => {
                    let id = fresh_id().map_err(error)?;
                    fs::write(&path, &id).map_err(error)?;
                    id
                }
                id => id.to_owned(),
            };
            return Ok(Self { id, _lock: Some(file) });
        }
        unreachable!("numbers do not end")
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Eight random bytes in hex.
fn fresh_id() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_keeps_its_id_and_two_at_once_have_two() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Instance::of_state_dir(dir.path()).expect("an id");
        let second = Instance::of_state_dir(dir.path()).expect("an id");
        assert_ne!(first.id(), second.id());
        let id = first.id().to_owned();
        drop(first);
        assert_eq!(Instance::of_state_dir(dir.path()).expect("an id").id(), id);
    }
}
