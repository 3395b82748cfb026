//! Where Kafka comes from: its jars in `target/kafka-4.2.0`, fetched by Maven, or Docker's image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version of the pom and of the image.
pub const KAFKA_VERSION: &str = "4.2.0";

/// How a broker can be run on this machine.
#[derive(Debug, Clone)]
pub enum KafkaHome {
    /// With Java, from the jars in this folder.
    Jars(PathBuf),
    /// As a container of this image.
    Docker(String),
}

impl KafkaHome {
    /// Finds Kafka or fetches it. The error says what was tried and what to install.
    pub fn find() -> Result<Self, String> {
        let no_java = match fetch_jars() {
            Ok(jars) => return Ok(Self::Jars(jars)),
            Err(reason) => reason,
        };
        let no_docker = match run(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]))
        {
            Ok(_) => return Ok(Self::Docker(format!("apache/kafka:{KAFKA_VERSION}"))),
            Err(reason) => reason,
        };
        Err(format!(
            "these tests need a real Apache Kafka and none could be had.\n\
             Do one of these:\n\
             - install Java 17 or later and Maven (Debian: apt-get install openjdk-17-jre-headless maven); \
             Kafka {KAFKA_VERSION} is then fetched from Maven Central\n\
             - start Docker; apache/kafka:{KAFKA_VERSION} is then run\n\
             - set TIDEMILL_TEST_BROKERS=host:port to a Kafka that tests may make topics on\n\
             What was tried:\n- Java and Maven: {no_java}\n- Docker: {no_docker}"
        ))
    }
}

/// Copies the jars that the pom names, once: other test processes wait at a file lock, and a download
/// that broke off has no marker and is done again. The marker is the pom itself, so a changed pom counts
/// as not fetched.
fn fetch_jars() -> Result<PathBuf, String> {
    run(Command::new("java").arg("-version"))?;
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml");
    let wanted = fs::read_to_string(&pom).map_err(|error| format!("{}: {error}", pom.display()))?;
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's folder for tests is in target");
    let jars = target.join(format!("kafka-{KAFKA_VERSION}"));
    let marker = jars.join("complete.pom");

    let lock_path = target.join(format!("kafka-{KAFKA_VERSION}.lock"));
    let lock = File::create(&lock_path).map_err(|error| format!("{}: {error}", lock_path.display()))?;
    lock.lock().map_err(|error| format!("{}: {error}", lock_path.display()))?;
    if fs::read_to_string(&marker).is_ok_and(|fetched| fetched == wanted) {
        return Ok(jars);
    }
    eprintln!("fetching Apache Kafka {KAFKA_VERSION} from Maven Central into {} (once)", jars.display());
    let at_jars = |error: std::io::Error| format!("{}: {error}", jars.display());
    if jars.exists() {
        fs::remove_dir_all(&jars).map_err(at_jars)?;
    }
    run(Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display())))?;
    fs::write(&marker, wanted).map_err(at_jars)?;
    Ok(jars)
}

/// Runs a command to its end; its output is the result or part of the error.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().chain(errors.lines()).collect();
    let last = lines[lines.len().saturating_sub(15)..].join("\n  ");
    Err(format!("`{name}` ended with {}:\n  {last}", output.status))
}
