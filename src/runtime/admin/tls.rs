//! The admin listener over TLS: handshakes side by side, each with a deadline, so that a slow one holds up no other;
//! and certificates that are exchanged while the process runs.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use axum::serve::Listener;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_openssl::SslStream;

use super::super::pem::{self, PemError};
use super::AdminError;
use crate::manifest::TlsFiles;

/// How long a client may take from its connection to the end of the handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// So many handshakes are under way; further connections wait with the system, at most as long as one takes.
const MOST_HANDSHAKES: usize = 256;

/// Why the files are none to speak TLS with.
#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("the key in {} is not that of the certificate in {}", .0.key.display(), .0.certificate.display())]
    Strangers(TlsFiles),
    #[error("OpenSSL does not take certificate and key: {0}")]
    Refused(#[from] ErrorStack),
}

/// The listener's certificate, as new as its files.
pub(super) struct Certificate {
    files: TlsFiles,
    seen: [Option<Version>; 2],
    acceptor: SslAcceptor,
}

/// What tells a file from what it was before: inode, length, time of the last change.
type Version = (u64, u64, i64, i64);

impl Certificate {
    /// Reads the files.
    pub(super) fn load(files: &TlsFiles) -> Result<Self, AdminError> {
        // Before they are read: what changes in between is then seen as a change.
        let seen = versions(files);
        let acceptor = acceptor(files).map_err(|error| AdminError::Tls(error.to_string()))?;
        Ok(Self { files: files.clone(), seen, acceptor })
    }

    /// Shows it to whoever connects.
    pub(super) fn listen(self, listener: TcpListener) -> TlsListener {
        TlsListener { listener, certificate: self, handshakes: JoinSet::new() }
    }

    /// Looks whether the files have changed. Of certificate and key one may be exchanged before the other; until both
    /// are, the old ones go on.
    fn renew(&mut self) {
        let seen = versions(&self.files);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match acceptor(&self.files) {
            Ok(acceptor) => {
                self.acceptor = acceptor;
                tracing::info!(file = %self.files.certificate.display(), "the admin listener has a new certificate");
            }
            Err(error) => tracing::warn!(%error, "the admin listener keeps the certificate that it has"),
        }
    }
}

fn versions(files: &TlsFiles) -> [Option<Version>; 2] {
    let version = |file: &Path| {
        let now = std::fs::metadata(file).ok()?;
        Some((now.ino(), now.len(), now.mtime(), now.mtime_nsec()))
    };
    [version(&files.certificate), version(&files.key)]
}

fn acceptor(files: &TlsFiles) -> Result<SslAcceptor, FilesError> {
    let mut chain = pem::certificates(&files.certificate)?.into_iter();
    let key = pem::private_key(&files.key)?;
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    if let Some(own) = chain.next() {
        if !own.public_key()?.public_eq(&key) {
            return Err(FilesError::Strangers(files.clone()));
        }
        builder.set_certificate(&own)?;
    }
    for above in chain {
        builder.add_extra_chain_cert(above)?;
    }
    builder.set_private_key(&key)?;
    Ok(builder.build())
}

/// Gives out connections whose handshake is done.
pub(super) struct TlsListener {
    listener: TcpListener,
    certificate: Certificate,
    handshakes: JoinSet<Option<(SslStream<TcpStream>, SocketAddr)>>,
}

impl Listener for TlsListener {
    type Io = SslStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                (stream, address) = Listener::accept(&mut self.listener),
                    if self.handshakes.len() < MOST_HANDSHAKES => self.begin(stream, address),
                Some(done) = self.handshakes.join_next() => if let Ok(Some(connection)) = done {
                    return connection;
                },
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl TlsListener {
    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        self.certificate.renew();
        let ssl = Ssl::new(self.certificate.acceptor.context());
        self.handshakes.spawn(async move {
            let failed = match tokio::time::timeout(HANDSHAKE_WITHIN, shake(ssl, stream)).await {
                Ok(Ok(stream)) => return Some((stream, address)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not done within {HANDSHAKE_WITHIN:?}"),
            };
            tracing::debug!(%address, error = failed, "a TLS handshake failed");
            None
        });
    }
}

async fn shake(ssl: Result<Ssl, ErrorStack>, stream: TcpStream) -> anyhow::Result<SslStream<TcpStream>> {
    let mut stream = SslStream::new(ssl?, stream)?;
    Pin::new(&mut stream).accept().await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use openssl::ssl::{SslConnector, SslStream};
    use openssl::symm::Cipher;
    use openssl::x509::X509;
    use tempfile::TempDir;

    use super::super::super::tls::tests::self_signed;
    use super::super::tests::{Running, connect, loopback, start};
    use super::super::{Config, TLS_SETTING};
    use super::*;

    type Client = SslStream<std::net::TcpStream>;

    fn listening(files: &TlsFiles) -> Running {
        start(&Config { admin: Some(loopback()), tls: Some(files.clone()), ..Config::default() }).unwrap()
    }

    /// A client that trusts the owner of `authority`.
    fn client(running: &Running, authority: &Path, newest: Option<SslVersion>) -> Result<Client, String> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_ca_file(authority).unwrap();
        builder.set_security_level(0);
        builder.set_max_proto_version(newest).unwrap();
        let stream = connect(running.admin.admin().unwrap());
        builder.build().connect("localhost", stream).map_err(|error| error.to_string())
    }

    fn ask(mut client: Client) -> String {
        client.write_all(b"GET /functions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    fn exchange(old: &Path, new: &Path) {
        std::fs::rename(new, old).unwrap();
    }

    #[test]
    fn who_speaks_tls_is_answered_and_nobody_else() {
        let folder = TempDir::new().unwrap();
        let files = self_signed(folder.path(), "one");
        let running = listening(&files);
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let answer = ask(client(&running, &files.certificate, Some(version)).unwrap());
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let old = client(&running, &files.certificate, Some(SslVersion::TLS1_1)).map(drop);
        assert!(old.as_ref().is_err_and(|error| error.contains("protocol version")), "{old:?}");
        let mut plain = connect(running.admin.admin().unwrap());
        plain.write_all(b"GET /functions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // Reset or closed, as the system likes.
        let _ = plain.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
    }

    #[test]
    fn a_certificate_is_exchanged_with_its_key_and_without_a_stop() {
        let folder = TempDir::new().unwrap();
        let (files, new) = (self_signed(folder.path(), "old"), self_signed(folder.path(), "new"));
        let [old_pem, new_pem] = [&files, &new].map(|files| std::fs::read(&files.certificate).unwrap());
        let authorities = folder.path().join("ca.crt");
        std::fs::write(&authorities, [old_pem.clone(), new_pem.clone()].concat()).unwrap();
        let running = listening(&files);
        let connected = || client(&running, &authorities, None).unwrap();
        let shown = || connected().ssl().peer_certificate().unwrap().to_der().unwrap();
        let [old_one, new_one] =
            [old_pem, new_pem].map(|pem| X509::from_pem(&pem).unwrap().to_der().unwrap());
        let before = connected();
        assert_eq!(shown(), old_one);
        exchange(&files.certificate, &new.certificate);
        assert_eq!(shown(), old_one, "until its key has come");
        exchange(&files.key, &new.key);
        assert_eq!(shown(), new_one);
        assert!(ask(before).starts_with("HTTP/1.1 200"), "who was connected goes on");
        std::fs::remove_file(&files.certificate).unwrap();
        assert_eq!(shown(), new_one, "a file that is gone changes nothing");
    }

    #[test]
    fn a_handshake_that_stalls_holds_up_nobody_and_is_given_up() {
        let folder = TempDir::new().unwrap();
        let files = self_signed(folder.path(), "one");
        let running = listening(&files);
        let mut silent: Vec<_> = (0..8).map(|_| connect(running.admin.admin().unwrap())).collect();
        connect(running.admin.admin().unwrap()).write_all(b"\x16\x03\x01 no handshake").unwrap();
        assert!(ask(client(&running, &files.certificate, None).unwrap()).starts_with("HTTP/1.1 200"));
        for stream in &mut silent {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed before the client's patience ends");
        }
        let _last = connect(running.admin.admin().unwrap());
        running.stop.send(()).unwrap();
        running.admin.join();
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let folder = TempDir::new().unwrap();
        let (one, two) = (self_signed(folder.path(), "one"), self_signed(folder.path(), "two"));
        let locked = folder.path().join("locked.key");
        let key = pem::private_key(&one.key).unwrap();
        std::fs::write(
            &locked,
            key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"x").unwrap(),
        )
        .unwrap();
        let gone = folder.path().join("gone");
        let rows = [
            (&gone, &one.key, "cannot read "),
            (&one.certificate, &gone, "cannot read "),
            (&one.key, &one.key, "one.key holds no certificate in PEM"),
            (&one.certificate, &one.certificate, "one.crt holds no private key in PEM"),
            (&one.certificate, &locked, "locked.key holds no private key in PEM, or one with a passphrase"),
            (&one.certificate, &two.key, "two.key is not that of the certificate in "),
        ];
        for (certificate, key, expected) in rows {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
            let error = Certificate::load(&files).err().expect(expected).to_string();
            assert!(error.contains(TLS_SETTING) && error.contains(expected), "{error}");
        }
    }
}
