//! Our own certificate authority: made once per data directory, trusted by whoever is given its `ca.pem`.
//!
//! It certifies the server itself, renewed by itself, and the webhooks of bots (`convoke cert HOST`). A certificate from
//! elsewhere can be served in its place; this file only loads it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

#[derive(Debug, Error)]
pub enum CertError {
    #[error("cannot {doing} {}: {error}", path.display())]
    File { doing: &'static str, path: PathBuf, error: io::Error },
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
    #[error("`{0}` is neither a host name nor an address")]
    Name(String),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The authority of a data directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: PathBuf,
}

/// A certificate fresh from the authority, as PEM.
pub struct Issued {
    /// The certificate and that of the authority.
    pub chain: String,
    pub key: String,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    pub names: BTreeSet<String>,
    pub from: OffsetDateTime,
    pub until: OffsetDateTime,
    pub issuer: Vec<u8>,
}

/// The certificate that is served, exchanged under way when it is renewed.
#[derive(Clone)]
pub struct Served {
    current: Arc<ArcSwap<CertifiedKey>>,
}

/// What the authority is, in its data directory: a backup must hold them.
pub const AUTHORITY_FILES: [&str; 2] = ["ca.pem", "ca-key.pem"];

/// What the authority made of itself, and makes again.
pub const DERIVED_FILES: [&str; 2] = ["server.pem", "server-key.pem"];

/// Long enough to outlive an installation; the key never leaves the data directory.
const AUTHORITY_FOR: Duration = Duration::from_hours(24 * 365 * 10);

/// Longer ones are refused by some clients.
const CERTIFICATE_FOR: Duration = Duration::from_hours(24 * 397);

/// A certificate with less than this left is replaced.
pub const RENEW_BEFORE: Duration = Duration::from_hours(24 * 30);

/// Clocks of clients may lag.
const BACKDATED_BY: Duration = Duration::from_hours(24);

impl Authority {
    /// Opens the authority in a data directory, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self, CertError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
        fs::create_dir_all(folder).map_err(file("make", folder))?;
        if !key.exists() {
            let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let made = authority_params()?.self_signed(&pair)?;
            write_secret(&key, &pair.serialize_pem())?;
            write(&certificate, &made.pem())?;
        }
        let pem = fs::read_to_string(&certificate).map_err(file("read", &certificate))?;
        let pair = fs::read_to_string(&key).map_err(file("read", &key))?;
        let pair = KeyPair::from_pem(&pair).map_err(unusable(&key))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(unusable(&certificate))?;
        Ok(Self { issuer, pem, folder: folder.to_owned() })
    }

    /// Where clients find the certificate to trust.
    pub fn path(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these host names and addresses.
    pub fn issue(&self, names: &[String]) -> Result<Issued, CertError> {
        let mut params = CertificateParams::new(names.to_vec())
            .map_err(|_| CertError::Name(names.iter().find(|name| !name.is_ascii()).unwrap_or(&names[0]).clone()))?;
        params.distinguished_name = named(names.first().map_or("convoke", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, CERTIFICATE_FOR);
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        Ok(Issued { chain: format!("{}{}", certificate.pem(), self.pem), key: pair.serialize_pem() })
    }

    /// The server's own certificate: the one in the data directory if it fits, else a new one, kept there.
    pub fn server_certificate(&self, names: &BTreeSet<String>) -> Result<CertifiedKey, CertError> {
        let (certificate, key) = (self.folder.join("server.pem"), self.folder.join("server-key.pem"));
        let fits = |found: &Inspected| {
            found.names == *names
                && found.until - RENEW_BEFORE > OffsetDateTime::now_utc()
                && inspect(self.pem.as_bytes(), &self.path()).is_ok_and(|authority| authority.issuer == found.issuer)
        };
        let kept =
            fs::read(&certificate).ok().and_then(|pem| inspect(&pem, &certificate).ok()).is_some_and(|f| fits(&f));
        if kept && let Ok(loaded) = load(&certificate, &key) {
            return Ok(loaded);
        }
        let issued = self.issue(&names.iter().cloned().collect::<Vec<_>>())?;
        write_secret(&key, &issued.key)?;
        write(&certificate, &issued.chain)?;
        load(&certificate, &key)
    }
}

impl Issued {
    /// Ready to be served.
    pub fn loaded(&self) -> Result<CertifiedKey, CertError> {
        let path = Path::new("issued certificate");
        loaded(self.chain.as_bytes(), path, self.key.as_bytes(), path)
    }
}

/// The names the server's certificate carries: this machine's, and those the operator adds.
pub fn server_names(more: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let own = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME").map_err(io::Error::other));
    ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .map(str::to_owned)
        .chain(own.ok())
        .chain(more)
        .map(|name| name.trim().trim_matches(['[', ']']).to_ascii_lowercase())
        .filter(|name| !name.is_empty() && CertificateParams::new(vec![name.clone()]).is_ok())
        .collect()
}

/// A chain and its key from PEM files.
pub fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, CertError> {
    let pem = fs::read(certificate).map_err(file("read", certificate))?;
    let private = fs::read(key).map_err(file("read", key))?;
    loaded(&pem, certificate, &private, key)
}

/// The paths are for the error.
fn loaded(chain: &[u8], certificate: &Path, private: &[u8], key: &Path) -> Result<CertifiedKey, CertError> {
    let chain = certificates(chain, certificate)?;
    let private = PrivateKeyDer::from_pem_slice(private).map_err(unusable(key))?;
    let private = provider().key_provider.load_private_key(private).map_err(unusable(key))?;
    let loaded = CertifiedKey::new(chain, private);
    match loaded.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(loaded),
        Err(_) => Err(CertError::Unusable {
            path: key.to_owned(),
            why: format!("is not the key of {}", certificate.display()),
        }),
    }
}

/// What the first certificate of a PEM text says; `path` is for the error.
pub fn inspect(pem: &[u8], path: &Path) -> Result<Inspected, CertError> {
    let chain = certificates(pem, path)?;
    inspect_der(&chain[0])
        .ok_or_else(|| CertError::Unusable { path: path.to_owned(), why: "is no certificate".to_owned() })
}

/// What a certificate says; `None` if it is none.
pub fn inspect_der(der: &[u8]) -> Option<Inspected> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let mut names = BTreeSet::new();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.insert(name.to_ascii_lowercase());
                }
                GeneralName::IPAddress(bytes) => {
                    let address = <[u8; 4]>::try_from(*bytes)
                        .map(IpAddr::from)
                        .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    names.extend(address.ok().map(|address| address.to_string()));
                }
                _ => {}
            }
        }
    }
    Some(Inspected {
        names,
        from: parsed.validity().not_before.to_datetime(),
        until: parsed.validity().not_after.to_datetime(),
        issuer: parsed.issuer().as_raw().to_vec(),
    })
}

/// What is trusted when we are the client: the system's roots, our own authority, and a file of the operator's.
pub fn roots(authority: Option<&str>, more: Option<&Path>) -> Result<RootCertStore, CertError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(pem) = authority {
        roots.add_parsable_certificates(certificates(pem.as_bytes(), Path::new("ca.pem"))?);
    }
    if let Some(path) = more {
        let pem = fs::read(path).map_err(file("read", path))?;
        let (_, refused) = roots.add_parsable_certificates(certificates(&pem, path)?);
        if refused > 0 {
            tracing::warn!(path = %path.display(), refused, "certificates that cannot be trusted");
        }
    }
    Ok(roots)
}

/// The one provider of cryptography, for everything that speaks TLS here.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Served {
    pub fn new(certificate: CertifiedKey) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(certificate)) }
    }

    /// New connections get this one.
    pub fn exchange(&self, certificate: CertifiedKey) {
        self.current.store(Arc::new(certificate));
    }

    /// HTTP/2 and HTTP/1.1 over TLS 1.3 and 1.2.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn authority_params() -> Result<CertificateParams, CertError> {
    let mut params = CertificateParams::new(Vec::new())?;
    // The random part keeps two authorities apart in a store that trusts both.
    let mark = &crate::auth::fresh_id().simple().to_string()[..8];
    params.distinguished_name = named(&format!("convoke authority {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_FOR);
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

fn valid_for(params: &mut CertificateParams, span: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED_BY;
    params.not_after = now + span;
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(CertError::Unusable { path: path.to_owned(), why: "holds no certificate".to_owned() }),
        Err(error) => Err(unusable(path)(error)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CertError> {
    put(path, text, 0o644)
}

/// For the owner's eyes only, from the first byte on.
pub fn write_secret(path: &Path, text: &str) -> Result<(), CertError> {
    put(path, text, 0o600)
}

/// Whoever reads the file sees the old text or the new one, never a part.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = path.with_extension("part");
    let written = (|| {
        let _ = fs::remove_file(&part);
        let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&part, path)
    })();
    written.map_err(file("write", path))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CertError {
    let path = path.to_owned();
    move |error| CertError::File { doing, path, error }
}

fn unusable<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> CertError {
    let path = path.to_owned();
    move |error| CertError::Unusable { path, why: error.to_string() }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|&name| name.to_owned()).collect()
    }

    /// Shakes hands in memory with a client that trusts `roots` and asks for `host`; what protocol they agreed on.
    fn shake(served: &Served, roots: RootCertStore, host: &str) -> Result<Option<Vec<u8>>, rustls::Error> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = rustls_pki_types::ServerName::try_from(host.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), host)?;
        let mut server = rustls::ServerConnection::new(served.server_config().unwrap())?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.alpn_protocol().map(<[u8]>::to_vec))
    }

    #[test]
    fn a_client_that_trusts_the_authority_trusts_the_server_and_no_other() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::open(folder.path()).unwrap();
        let stranger = Authority::open(other.path()).unwrap();
        let served = Served::new(authority.server_certificate(&server_names(["calls.example".to_owned()])).unwrap());
        for host in ["localhost", "127.0.0.1", "::1", "calls.example"] {
            let roots = roots(Some(authority.pem()), None).unwrap();
            assert_eq!(shake(&served, roots, host).unwrap().unwrap(), b"http/1.1", "{host}");
        }
        assert!(shake(&served, roots(Some(authority.pem()), None).unwrap(), "other.example").is_err());
        assert!(shake(&served, roots(Some(stranger.pem()), None).unwrap(), "localhost").is_err());
        let renewed = authority.issue(&["bot.example".to_owned()]).unwrap();
        fs::write(folder.path().join("b.pem"), &renewed.chain).unwrap();
        fs::write(folder.path().join("b-key.pem"), &renewed.key).unwrap();
        served.exchange(load(&folder.path().join("b.pem"), &folder.path().join("b-key.pem")).unwrap());
        assert!(shake(&served, roots(Some(authority.pem()), None).unwrap(), "bot.example").is_ok());
    }

    #[test]
    fn the_server_certificate_is_kept_until_its_names_or_its_authority_change() {
        let folder = tempfile::tempdir().unwrap();
        let kept = |names: &BTreeSet<String>| {
            let certificate = Authority::open(folder.path()).unwrap().server_certificate(names).unwrap();
            certificate.cert[0].to_vec()
        };
        let first = kept(&names(&["localhost"]));
        assert_eq!(first, kept(&names(&["localhost"])));
        let second = kept(&names(&["localhost", "a.example"]));
        assert_ne!(first, second);
        assert_eq!(inspect_der(&second).unwrap().names, names(&["a.example", "localhost"]));
        fs::remove_file(folder.path().join("ca-key.pem")).unwrap();
        assert_ne!(second, kept(&names(&["localhost", "a.example"])), "a new authority");
        for key in ["ca-key.pem", "server-key.pem"] {
            let mode = fs::metadata(folder.path().join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let (one, other) = (authority.issue(&["a".to_owned()]).unwrap(), authority.issue(&["b".to_owned()]).unwrap());
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        fs::write(&chain, one.chain).unwrap();
        fs::write(&key, other.key).unwrap();
        assert!(load(&chain, &key).unwrap_err().to_string().contains("is not the key of"));
        assert!(authority.issue(&["größe".to_owned()]).is_err());
    }
}
