//! TLS to another process, by the OpenSSL that librdkafka has in this build.

use std::pin::Pin;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslMethod};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// Whom to trust: the system's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub struct Tls(SslConnector);

impl Tls {
    /// Reads the certificates.
    pub fn new() -> Result<Self, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        // An OpenSSL that was built along knows only the folder it would have been installed to.
        let found = openssl_probe::probe();
        if let Some(file) = &found.cert_file {
            builder.set_ca_file(file)?;
        }
        for folder in &found.cert_dir {
            builder.load_verify_locations(None, Some(folder))?;
        }
        Ok(Self(builder.build()))
    }

    /// Shakes hands with `host`, whose name its certificate must have.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> Result<SslStream<TcpStream>, String> {
        let said = |error: &dyn std::fmt::Display| format!("TLS: {error}");
        let ssl =
            self.0.configure().and_then(|config| config.into_ssl(host)).map_err(|error| said(&error))?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| said(&error))?;
        Pin::new(&mut stream).connect().await.map_err(|error| said(&error))?;
        Ok(stream)
    }
}
