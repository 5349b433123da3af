//! STARTTLS against dovecot and PostgreSQL.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::certificates::{Authority, Pair};
use common::probe;
use pe_probe::TcpFactory;
use pe_testkit::{free_port, require, wait};
use serde_json::json;

/// A program that is ended with SIGTERM, and its children with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command, ports: &[u16]) -> Running {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let running = Running(command.stderr(Stdio::null()).spawn().unwrap());
    for port in ports {
        wait::until("a server", || TcpStream::connect(("127.0.0.1", *port)).ok());
    }
    running
}

/// dovecot with IMAP, POP3 and submission on ports of its own, and nothing of the system's configuration.
fn dovecot(directory: &Path, pair: &Pair, [imap, pop3, submission]: [u16; 3]) -> Running {
    let at = directory.display();
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let listener = |service: &str, name: &str, port| {
        format!(
            "service {service}-login {{\n  inet_listener {name} {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n  \
             inet_listener {name}s {{\n    port = 0\n  }}\n  chroot =\n}}\n"
        )
    };
    let config = format!(
        "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = {at}/log\nprotocols = imap pop3 submission\n\
         ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\nmail_location = maildir:{at}/mail\n\
         passdb {{\n  driver = static\n  args = password=x\n}}\n\
         submission_relay_host = 127.0.0.1\nhostname = localhost\n{}{}{}",
        listener("imap", "imap", imap),
        listener("pop3", "pop3", pop3),
        listener("submission", "submission", submission),
    );
    let file = directory.join("dovecot.conf");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("/usr/sbin/dovecot");
    start(
        command.arg("-F").arg("-c").arg(file),
        &[imap, pop3, submission],
    )
}

fn ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| free_port().unwrap().port())
}

#[tokio::test]
async fn mail_servers_go_over_to_tls() {
    require!(Program("dovecot"), Program("openssl"), Root);
    let authority = Authority::new();
    let pair = authority.sound("mail");
    let directory = tempfile::tempdir().unwrap();
    // Its processes run as users of their own.
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let ports: [u16; 3] = ports();
    let _dovecot = dovecot(directory.path(), &pair, ports);
    let protocols = ["imap", "pop3", "smtp"];
    for (protocol, port) in protocols.into_iter().zip(ports) {
        let tls = json!({"ca_file": authority.certificate()});
        let own = json!({"port": port, "starttls": protocol, "tls": tls});
        let shown = probe(&TcpFactory::default(), "127.0.0.1", own).await;
        shown.succeeded();
        assert_eq!(
            shown.label("probe_ssl_last_chain_info", "subject"),
            "CN=mail"
        );
        let strange = json!({"port": port, "starttls": protocol});
        let shown = probe(&TcpFactory::default(), "127.0.0.1", strange).await;
        shown.failed("tls_unknown_ca");
    }
    // IMAP in the place of POP3 greets otherwise.
    let own = json!({"port": ports[0], "starttls": "pop3", "timeout": "300ms"});
    let shown = probe(&TcpFactory::default(), "127.0.0.1", own).await;
    shown.failed("mismatch");
}

#[tokio::test]
async fn postgres_goes_over_to_tls_or_refuses() {
    const BIN: &str = "/usr/lib/postgresql/15/bin";
    require!(
        File("/usr/lib/postgresql/15/bin/postgres"),
        Program("openssl"),
        Program("setpriv"),
        Root
    );
    let authority = Authority::new();
    let pair = authority.sound("base");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for file in [&pair.certificate, &pair.key] {
        std::fs::copy(file, data.with_file_name(file.file_name().unwrap())).unwrap();
    }
    let key = data.with_file_name("base.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let run = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        command.arg(format!("{BIN}/{program}")).arg("-D").arg(&data);
        command.current_dir(directory.path());
        command
    };
    let owner = Command::new("chown")
        .args(["-R", "nobody:nogroup"])
        .arg(directory.path())
        .status();
    assert!(owner.unwrap().success());
    let made = run("initdb")
        .args(["-A", "trust", "--no-sync"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let [with, without] = ports();
    for (port, tls) in [(with, "on"), (without, "off")] {
        let certificate = data.with_file_name("base.pem");
        let _server = start(
            run("postgres")
                .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
                .args([
                    format!("--ssl={tls}"),
                    format!("--ssl_cert_file={}", certificate.display()),
                    format!("--ssl_key_file={}", key.display()),
                ]),
            &[port],
        );
        let own = json!({"port": port, "starttls": "postgres", "tls": {"ca_file": authority.certificate()}});
        let shown = probe(&TcpFactory::default(), "127.0.0.1", own).await;
        match tls {
            "on" => shown.succeeded(),
            _ => shown.failed("starttls_refused"),
        }
    }
}
