//! Certificates that openssl makes: an authority, and what it signs.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::command;

/// An authority of a test's own. Its files are gone with the value. Needs `Program("openssl")`.
#[derive(Debug)]
pub struct Authority(TempDir);

/// A certificate and its key, as PEM files.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

fn openssl(directory: &Path, arguments: &str) {
    let mut command = command("openssl");
    command.current_dir(directory).args(arguments.split(' '));
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run openssl: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {words}");
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// If it cannot be made.
    #[allow(
        clippy::new_without_default,
        reason = "it runs a program and writes files"
    )]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for certificates");
        let at = directory.path();
        let subject = "-subj /CN=authority -addext keyUsage=critical,keyCertSign,cRLSign";
        openssl(
            at,
            &format!("req -x509 {KEY} -days 40 {subject} -keyout ca.key -out ca.pem"),
        );
        let write = |name: &str, content: &str| {
            let written = std::fs::write(at.join(name), content);
            written.unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
        };
        std::fs::create_dir(at.join("new")).expect("a directory of signed certificates");
        write("index", "");
        let config = "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nnew_certs_dir = new\nrand_serial = yes\n\
                      default_md = sha256\npolicy = any\ncopy_extensions = copy\nunique_subject = no\n\
                      [any]\ncommonName = supplied\n";
        write("ca.cnf", config);
        Self(directory)
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// A certificate for these names, valid from a date to another, in the form YYYYMMDD.
    ///
    /// # Panics
    /// If openssl refuses that.
    pub fn signed(&self, name: &str, alternatives: &str, from: &str, to: &str) -> Pair {
        let at = self.0.path();
        let subject = format!("-subj /CN={name} -addext subjectAltName={alternatives}");
        openssl(
            at,
            &format!("req -new {KEY} {subject} -keyout {name}.key -out {name}.csr"),
        );
        let dates = format!("-startdate {from}000000Z -enddate {to}000000Z");
        let authority = "-config ca.cnf -cert ca.pem -keyfile ca.key -batch -notext";
        openssl(
            at,
            &format!("ca {authority} {dates} -in {name}.csr -out {name}.pem"),
        );
        Pair {
            certificate: at.join(format!("{name}.pem")),
            key: at.join(format!("{name}.key")),
        }
    }

    /// A valid one for `localhost`, 127.0.0.1 and ::1.
    ///
    /// # Panics
    /// If openssl refuses the name.
    pub fn sound(&self, name: &str) -> Pair {
        self.signed(name, LOCAL, "20200101", "20490101")
    }

    /// One that is signed by itself.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn self_signed(&self) -> Pair {
        let at = self.0.path();
        openssl(
            at,
            &format!(
                "req -x509 {KEY} -days 40 -subj /CN=self -addext subjectAltName={LOCAL} -keyout self.key -out self.pem"
            ),
        );
        Pair {
            certificate: at.join("self.pem"),
            key: at.join("self.key"),
        }
    }
}

/// The names of this machine.
pub const LOCAL: &str = "DNS:localhost,IP:127.0.0.1,IP:::1";
