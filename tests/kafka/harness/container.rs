//! `tidemill` in a container instead of a process of its own, when `TIDEMILL_TEST_IMAGE` names an image: not root, its
//! file system read-only, on this machine's network. Podman runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::client::unique;

/// The container of one worker.
pub struct Container {
    name: String,
}

impl Container {
    /// The command that runs `tidemill ARGS…` in a container and shows what it prints, or `None` when no image is
    /// named. In it `folder` and the plugins of the tests have the paths that they have outside.
    pub fn of_image(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Option<(Self, Command)> {
        let image = std::env::var("TIDEMILL_TEST_IMAGE").ok().filter(|image| !image.is_empty())?;
        // The user in the container is not the one out here.
        fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("the folder is ours");
        let folder = folder.to_str().expect("a path that is text");
        let plugins = env!("CARGO_TARGET_TMPDIR");
        let name = unique("tidemill-test");
        let mut command = Command::new("podman");
        command
            .args(["run", "--rm", "--name", &name, "--network", "host", "--read-only", "--no-healthcheck"])
            .args(["--volume", &format!("{folder}:{folder}"), "--volume", &format!("{plugins}:{plugins}:ro")])
            .args(["--security-opt", "label=disable", "--workdir", folder]);
        for (variable, value) in env {
            command.arg("--env").arg(format!("{variable}={value}"));
        }
        command.arg(image).args(args);
        Some((Self { name }, command))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `podman VERB…` on it; the error is what podman says.
    pub fn order(&self, verb: &[&str]) -> Result<(), String> {
        let output = Command::new("podman").args(verb).arg(&self.name).stdin(Stdio::null()).output();
        let output = output.expect("podman starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        // One that stands still takes no signal, SIGKILL neither.
        if verb == KILL && errors.contains("state paused") {
            return self.order(&["rm", "--force", "--time", "0"]);
        }
        if output.status.success() { Ok(()) } else { Err(errors.into_owned()) }
    }
}

/// What kills a container at once.
pub const KILL: &[&str] = &["kill", "--signal", "KILL"];
