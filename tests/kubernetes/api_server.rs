//! A real kube-apiserver with its etcd, in a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::harness::{Supervisor, free_port, try_wait};

/// What the program says that it is: the version of k8s.io/kubernetes in `api/go.mod`.
const VERSION: &str = "v1.36.3";

/// Half the cores of the machine may be busy with something else.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// The API server that all tests of this run share, each in a namespace of its own.
pub fn api_server() -> &'static ApiServer {
    static SHARED: OnceLock<ApiServer> = OnceLock::new();
    SHARED.get_or_init(ApiServer::start)
}

/// A running API server with its data, which end when it is dropped, or with the test process.
pub struct ApiServer {
    folder: PathBuf,
    address: String,
    supervisor: Supervisor,
}

impl ApiServer {
    /// Starts one that holds nothing yet and waits until it is ready.
    pub fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("tidemill-test-kubernetes-").tempdir().expect("a folder").keep();
        let port = free_port();
        let data = folder.join("api");
        let command = [program().to_owned(), "-dir".into(), data, "-port".into(), port.to_string().into()];
        let command = command.map(|word| word.to_str().expect("a path that is text").to_owned());
        fs::create_dir(folder.join("api")).expect("a folder");
        let supervisor = Supervisor::spawn(&folder, "java", &command);
        let mut server = Self { folder, address: format!("https://127.0.0.1:{port}"), supervisor };
        server.supervisor.order("start");
        server.wait_until_ready();
        server
    }

    /// Ends it in order; its data stay.
    pub fn stop(&mut self) {
        self.supervisor.order("stop");
    }

    /// Starts it again with what it held, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.supervisor.order("again");
        self.wait_until_ready();
    }

    /// Lets it hang: connections stay open, and nothing is answered.
    pub fn stand_still(&mut self) {
        self.supervisor.order("pause");
    }

    /// Lets it go on.
    pub fn go_on(&mut self) {
        self.supervisor.order("resume");
    }

    /// What `kubectl ARGS…` prints, as the admin; the error is what it says.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.folder.join("api/kubeconfig"))
            .args(args)
            // Discovery is cached there; nothing of the person's who runs the tests is wanted.
            .env("KUBECACHEDIR", self.folder.join("cache"))
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| {
                panic!("these tests need kubectl (https://kubernetes.io/docs/tasks/tools): {error}")
            });
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// A kubeconfig for who has this token.
    pub fn kubeconfig(&self, token: &str, namespace: &str) -> String {
        let authority = self.folder.join("api/ca.crt");
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "it", "cluster": { "server": self.address, "certificate-authority": authority } }],
            "users": [{ "name": "it", "user": { "token": token } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it", "namespace": namespace } }],
            "current-context": "it",
        })
        .to_string()
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        try_wait(READY_WITHIN, "the API server", || {
            let ready = self.kubectl(&["get", "--raw", "/readyz", "--request-timeout", "5s"]);
            let log = || fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
            assert!(!self.folder.join("exited").exists(), "the API server ended: {}", log());
            ready.map(drop).map_err(|error| format!("{error}{}", log()))
        });
    }
}

/// The program, built if it is not there or its source is another.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kube-api");
        eprintln!("building kube-apiserver {VERSION} with Go; the first time takes ten minutes");
        let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={VERSION}");
        let built = Command::new("go")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/api"))
            .args(["build", "-ldflags", &flags, "-o"])
            .arg(&file)
            .arg(".")
            .stdin(Stdio::null())
            .status()
            .unwrap_or_else(|error| {
                panic!("these tests need Go, as api/go.mod says which (https://go.dev/dl): {error}")
            });
        assert!(built.success(), "the API server cannot be built: {built}");
        file
    })
}
