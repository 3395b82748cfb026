//! Tidemill: built by cargo in the benchmark's own profile, started as a user would start it. All
//! that the benchmarks know about its manifest, its flags and its environment stands here.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::contest::Route;
use crate::process::{self, Running};
use crate::session::{self, Session};

/// What Tidemill runs.
#[derive(Debug, Clone)]
pub struct Function {
    /// The plugin's package, if there is a handler.
    pub package: Option<&'static str>,
    /// More of the handler, as YAML in a flow mapping.
    pub handler: String,
    /// The window, as YAML in a flow mapping, in the place of a handler.
    pub window: Option<String>,
    /// The topic of a second source.
    pub beside: Option<String>,
    /// More of the delivery, as YAML in a flow mapping.
    pub delivery: &'static str,
    /// Format of the source.
    pub source_format: &'static str,
    /// Filters of the source, as YAML.
    pub filters: String,
    /// The sink below its name and topic, as YAML.
    pub sink: &'static str,
    /// Longest time between cuts.
    pub commit_interval: Duration,
    /// How many workers, as YAML in a flow mapping.
    pub scale: String,
    /// One more line of the spec, if it is not empty.
    pub more: &'static str,
    /// Variables of the process.
    pub variables: Vec<(&'static str, String)>,
}

impl Function {
    /// The echo of bytes: nothing but what the engine itself costs.
    pub fn echo(commit_interval: Duration) -> Self {
        Self {
            package: Some("echo"),
            handler: String::new(),
            window: None,
            beside: None,
            delivery: "",
            source_format: "bytes",
            filters: "[]".to_owned(),
            sink: "format: bytes",
            commit_interval,
            scale: "min: 1, max: 1".to_owned(),
            more: "",
            variables: Vec::new(),
        }
    }

    /// The manifest; `name` is fresh, and with it the group.
    fn manifest(&self, name: &str, plugin: &str, route: Route<'_>) -> String {
        let work = match &self.window {
            Some(window) => format!("window: {window}"),
            None => format!("handler: {{ plugin: {plugin}{} }}", self.handler),
        };
        let beside = self.beside.as_ref().map(|topic| {
            format!("\x20   - {{ topic: {topic}, format: {}, startAt: earliest }}\n", self.source_format)
        });
        format!(
            "apiVersion: tidemill.dev/v1alpha1\n\
             kind: Function\n\
             metadata: {{ name: {name} }}\n\
             spec:\n\
             \x20 {work}\n\
             \x20 sources:\n\
             \x20   - topic: {input}\n\
             \x20     format: {source}\n\
             \x20     startAt: earliest\n\
             \x20     filters: {filters}\n\
             {beside}\
             \x20 sinks:\n\
             \x20   - name: default\n\
             \x20     topic: {output}\n\
             \x20     {sink}\n\
             \x20 delivery: {{ guarantee: exactlyOnce, commitInterval: {cut}ms{delivery} }}\n\
             \x20 scale: {{ {scale} }}\n\
             {more}",
            input = route.input,
            output = route.output,
            delivery = self.delivery,
            source = self.source_format,
            filters = self.filters,
            sink = self.sink,
            beside = beside.unwrap_or_default(),
            cut = self.commit_interval.as_millis(),
            scale = self.scale,
            more = if self.more.is_empty() { String::new() } else { format!("\x20 {}\n", self.more) },
        )
    }
}

/// Tidemill and a plugin, built.
pub struct Tidemill {
    binary: PathBuf,
    plugin: PathBuf,
    function: Function,
}

impl Tidemill {
    /// Builds the binary and the function's plugin.
    pub fn build(function: &Function) -> Result<Self> {
        eprintln!("building tidemill{}", function.package.map_or(String::new(), |it| format!(" and {it}")));
        let target = session::target_dir()?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).arg("build").arg("--target-dir").arg(&target);
        cargo.args(["-p", "tidemill", "--features", "tidemill/jemalloc"]);
        cargo.args(function.package.iter().flat_map(|package| ["-p", package]));
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            cargo.args(["--profile", "dist"]);
            "dist"
        };
        process::build(&mut cargo)?;
        let built = target.join(profile);
        let package = function.package.unwrap_or_default().replace('-', "_");
        let plugin = built.join(format!("lib{package}.so"));
        Ok(Self { binary: built.join("tidemill"), plugin, function: function.clone() })
    }

    /// The consumer group of the function named `name`.
    pub fn group(&self, name: &str) -> String {
        format!("tidemill.default.{name}")
    }

    /// Where the function named `name` keeps what is in its windows.
    pub fn state_topic(&self, name: &str) -> String {
        format!("{name}.state")
    }

    /// Starts a process of the function, named `name`.
    pub fn start(&self, session: &Session, name: &str, route: Route<'_>) -> Result<Running> {
        self.start_all(session, name, &[(name, &self.function, route)], &["run"])
    }

    /// Starts a process of many functions, each with its name, whose verb and options these are.
    pub fn start_all(
        &self,
        session: &Session,
        process: &str,
        functions: &[(&str, &Function, Route<'_>)],
        verb: &[&str],
    ) -> Result<Running> {
        let own_dir = session.run_dir().join(process);
        let manifests = own_dir.join("functions");
        fs::create_dir_all(&manifests)?;
        let plugin = self.plugin.display().to_string();
        for (name, function, route) in functions {
            let manifest = function.manifest(name, &plugin, *route);
            fs::write(manifests.join(format!("{name}.yaml")), manifest)?;
        }
        Running::start(process, &self.binary, own_dir.join("log"), |command| {
            command.args(verb).arg(&manifests).args(["--brokers", session.brokers()]);
            command
                .env("TIDEMILL_METRICS", "127.0.0.1:0")
                .env("TIDEMILL_ADMIN", "127.0.0.1:0")
                .envs(self.function.variables.iter().map(|(name, value)| (name, value)))
                .env("TIDEMILL_STATE_DIR", own_dir.join("state"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_the_one_that_a_user_would_write() {
        let function = Function::echo(Duration::from_millis(100));
        let route = Route { input: "in", output: "out" };
        let expected = "\
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: { name: echo-1 }
spec:
  handler: { plugin: /built/libecho.so }
  sources:
    - topic: in
      format: bytes
      startAt: earliest
      filters: []
  sinks:
    - name: default
      topic: out
      format: bytes
  delivery: { guarantee: exactlyOnce, commitInterval: 100ms }
  scale: { min: 1, max: 1 }
";
        assert_eq!(function.manifest("echo-1", "/built/libecho.so", route), expected);
        let keeping = Function { more: "state: {}", ..function.clone() };
        let more = format!("{expected}  state: {{}}\n");
        assert_eq!(keeping.manifest("echo-1", "/built/libecho.so", route), more);
        let counting = Function { window: Some("{ count: { size: 5 } }".to_owned()), ..function };
        let expected =
            expected.replace("handler: { plugin: /built/libecho.so }", "window: { count: { size: 5 } }");
        assert_eq!(counting.manifest("echo-1", "", route), expected);
    }
}
