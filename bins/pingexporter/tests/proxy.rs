//! Remote write through a proxy for HTTPS: tinyproxy, unpacked from Debian's package.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::process::Child;

use common::{Files, device, group};
use pe_testkit::certificates::Authority;
use pe_testkit::{Nginx, WriteReceiver, free_port, in_namespace, require, wait};
use serde_json::json;
use tempfile::TempDir;

const TINYPROXY: &str = concat!(
    env!("CARGO_TARGET_TMPDIR"),
    "/tinyproxy-bin/usr/bin/tinyproxy"
);

/// An address of the namespace, since loopback addresses are not asked of a proxy.
const RECEIVER: &str = "10.9.9.1";

/// A tinyproxy that wants a user and a password, and connects to one port only. Killed with the value.
struct Proxy {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Proxy {
    fn start(port: u16) -> Self {
        let (directory, address) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        let config = format!(
            "Port {}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 10\nBasicAuth u hunter2\n\
             ConnectPort {port}\nLogLevel Connect\nLogFile \"{}\"\n",
            address.port(),
            directory.path().join("log").display()
        );
        let file = directory.path().join("tinyproxy.conf");
        fs::write(&file, config).unwrap();
        let mut command = pe_testkit::command(TINYPROXY);
        command.arg("-d").arg("-c").arg(&file);
        let child = pe_testkit::start(command).unwrap();
        wait::until("tinyproxy", || std::net::TcpStream::connect(address).ok());
        Self {
            child,
            address,
            directory,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn samples_go_through_a_tunnel_of_the_proxy_that_the_environment_names() {
    require!(
        Program("nginx"),
        Program("openssl"),
        File(TINYPROXY),
        Namespaces
    );
    in_namespace(|namespace| {
        namespace.add_address("lo", &format!("{RECEIVER}/32"));
        let authority = Authority::new();
        let pair = authority.signed(
            "receiver",
            &format!("IP:{RECEIVER}"),
            "20200101",
            "20490101",
        );
        let receiver = WriteReceiver::start();
        let port = free_port().unwrap().port();
        let listen = format!("listen {RECEIVER}:{port} ssl;");
        let _nginx = Nginx::with_certificate(receiver.address(), &pair, &listen);
        let proxy = Proxy::start(port);
        let once = |port: u16, user: &str| {
            let url = format!("https://{RECEIVER}:{port}/api/v1/write");
            let tls = json!({"ca_file": authority.certificate()});
            let files = Files::new()
                .group("g.json", &group("p", &[device("d", "127.0.0.1")]))
                .push(&json!({"sinks": [{"remote_write": {"url": url, "tls": tls}}]}));
            let mut command = files.once_command();
            command.env("HTTPS_PROXY", format!("http://{user}{}", proxy.address));
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!told.contains("hunter2"), "{told}");
            (output.status.code(), told)
        };

        let (code, told) = once(port, "u:hunter2@");
        assert_eq!(code, Some(0), "{told}{}", proxy.log());
        let devices = receiver.samples();
        let has_device = |name: &str| {
            let mut labels = devices.iter().flat_map(|sample| &sample.labels);
            labels.any(|(_, value)| value == name)
        };
        assert!(has_device("d") && has_device("ping_up"));
        let asked = format!("CONNECT {RECEIVER}:{port}");
        assert!(proxy.log().contains(&asked), "{}", proxy.log());

        let through = format!("the proxy of the environment, http://{}", proxy.address);
        for (port, user, words) in [
            (port, "", "407"),
            (port, "u:wrong@", "401"),
            (1, "u:hunter2@", "403"),
        ] {
            let (code, told) = once(port, user);
            assert_eq!(code, Some(1), "{told}");
            assert!(told.contains(&through) && told.contains(words), "{told}");
        }
    });
}
