//! A certificate authority for one test, and a certificate of a server of this machine that it has signed.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// PEM files in a folder of their own, which goes with this value.
#[derive(Debug)]
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// Makes an authority and with it a certificate for `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Panics
    /// When there are no random numbers or no room for temporary files.
    #[must_use]
    pub fn generate() -> Self {
        let (authority, certificate, key) = Self::signed().expect("keys and certificates of fixed parameters");
        let folder = tempfile::Builder::new().prefix("certificates-").tempdir().expect("a temporary folder");
        let made = Self { folder };
        let files = [(made.authority(), authority), (made.certificate(), certificate), (made.key(), key)];
        for (path, pem) in files {
            std::fs::write(path, pem).expect("a file in a temporary folder");
        }
        made
    }

    fn signed() -> Result<(String, String, String), rcgen::Error> {
        // Long enough for any test, and in the years that every implementation can write.
        let valid = |params: &mut CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2049, 1, 1);
        };
        let mut authority = CertificateParams::new([])?;
        valid(&mut authority);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "authority of a test");
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut server = CertificateParams::new(["localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
        valid(&mut server);
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok((authority_pem, server.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
    }

    /// The authority's certificate, which clients are to trust: the value for `SSL_CERT_FILE`.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.file("authority.pem")
    }

    /// The server's certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// The server's private key (PKCS #8).
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.file("key.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        let folder: &Path = self.folder.path();
        folder.join(name)
    }
}
