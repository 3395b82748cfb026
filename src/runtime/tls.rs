//! TLS to another process, by the OpenSSL that librdkafka has in this build.

use std::path::Path;
use std::pin::Pin;

use anyhow::{Context as _, bail};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::pem;

/// Whom to trust.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The system's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
    /// The authorities in this PEM file, and no others.
    Authorities(&'a Path),
    /// Who has the first certificate of this PEM file, whatever name it was made out to.
    Owner(&'a Path),
}

/// The client's side of connections.
pub struct Tls {
    connector: SslConnector,
    owner_of: Option<X509>,
}

impl Tls {
    /// Reads the certificates.
    pub fn new(trust: Trust<'_>) -> anyhow::Result<Self> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        let mut owner_of = None;
        match trust {
            Trust::System => {
                // An OpenSSL that was built along knows only the folder it would have been installed to.
                let found = openssl_probe::probe();
                if let Some(file) = &found.cert_file {
                    builder.set_ca_file(file)?;
                }
                for folder in &found.cert_dir {
                    builder.load_verify_locations(None, Some(folder))?;
                }
            }
            Trust::Authorities(file) => {
                let mut store = X509StoreBuilder::new()?;
                for authority in pem::certificates(file)? {
                    store.add_cert(authority)?;
                }
                builder.set_cert_store(store.build());
            }
            Trust::Owner(file) => {
                owner_of = pem::certificates(file)?.into_iter().next();
                // The handshake proves that the other side has the certificate's key; which one it is, is seen then.
                builder.set_verify(SslVerifyMode::NONE);
            }
        }
        Ok(Self { connector: builder.build(), owner_of })
    }

    /// Shakes hands with `host`, whose name its certificate must have.
    pub async fn connect(&self, host: &str, stream: TcpStream) -> anyhow::Result<SslStream<TcpStream>> {
        let config = self.connector.configure()?.verify_hostname(self.owner_of.is_none());
        let mut stream = SslStream::new(config.into_ssl(host)?, stream)?;
        if let Err(error) = Pin::new(&mut stream).connect().await {
            // The error itself does not say what a certificate lacks.
            match stream.ssl().verify_result() {
                X509VerifyResult::OK => bail!("{error}"),
                lack => bail!("the certificate is not trusted: {lack}"),
            }
        }
        if let Some(expected) = &self.owner_of {
            let shown = stream.ssl().peer_certificate().context("no certificate is shown")?;
            if shown.to_der()? != expected.to_der()? {
                bail!("another certificate is shown than the one in the settings' file");
            }
        }
        Ok(stream)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509, X509NameBuilder};

    use crate::manifest::TlsFiles;

    /// A certificate by `name`'s own authority for this machine's loopback names, with its key: two new files in
    /// `folder`.
    pub(crate) fn self_signed(folder: &std::path::Path, name: &str) -> TlsFiles {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let names = SubjectAlternativeName::new()
            .dns("localhost")
            .ip("127.0.0.1")
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let files = TlsFiles { certificate: file("crt"), key: file("key") };
        std::fs::write(&files.certificate, builder.build().to_pem().unwrap()).unwrap();
        std::fs::write(&files.key, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        files
    }
}
