//! Receivers behind TLS: nginx, with certificates that openssl makes.

use std::path::Path;

use pe_scrape::Sink;
use pe_testkit::certificates::{Authority, LOCAL, Pair};
use pe_testkit::{Nginx, WriteReceiver, require, wait};
use serde_json::{Value, json};

use crate::fleet::{Fleet, by_series, lost, metric, sink};

fn url(nginx: &Nginx) -> String {
    format!("https://localhost:{}/api/v1/write", nginx.address().port())
}

/// Publishes three cycles to a sink with these settings of TLS, and says what became of them.
async fn written(nginx: &Nginx, fleet: &Fleet, tls: &Value) -> (Result<(), String>, f64) {
    let sink = sink(&url(nginx), json!({"tls": tls}));
    for cycle in 0..3 {
        sink.publish(fleet.report(cycle, &[]));
    }
    let flushed = sink.flush().await.map_err(|error| error.to_string());
    assert_eq!(lost(&*sink, "refused"), 0.0);
    (flushed, waiting(&*sink))
}

fn waiting(sink: &dyn Sink) -> f64 {
    metric(sink, "pingexporter_remote_write_queue_samples", None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_wrong_is_told_and_costs_no_sample() {
    require!(Program("nginx"), Program("openssl"));
    let (authority, stranger) = (Authority::new(), Authority::new());
    let sound = authority.sound("sound");
    let other = authority.signed("other", "DNS:receiver.test", "20200101", "20490101");
    let expired = authority.signed("expired", LOCAL, "20200101", "20200201");
    let ours = json!({"ca_file": authority.certificate()});
    let strangers = json!({"ca_file": stranger.certificate()});
    let unknown = "the server's certificate is signed by nobody who is trusted here";
    // All authorities of these tests have the same name.
    let other_key = "signed with another key than that of the authority of that name";
    for (pair, tls, words) in [
        (&sound, &json!({}), unknown),
        (&sound, &strangers, other_key),
        (&other, &ours, "not valid for name \"localhost\""),
        (&expired, &ours, "expired"),
    ] {
        let receiver = WriteReceiver::start();
        let nginx = Nginx::with_certificate(receiver.address(), pair, "");
        let fleet = Fleet::until_now(2, 3);
        let (flushed, waiting) = written(&nginx, &fleet, tls).await;
        let told = flushed.unwrap_err();
        assert!(told.contains(words), "{told}");
        assert_eq!((waiting, receiver.samples().len()), (12.0, 0), "{words}");
    }
    let by_name = json!({"ca_file": authority.certificate(), "server_name": "receiver.test"});
    for (pair, tls) in [(&sound, &ours), (&other, &by_name)] {
        let receiver = WriteReceiver::start();
        let nginx = Nginx::with_certificate(receiver.address(), pair, "");
        let fleet = Fleet::until_now(2, 3);
        written(&nginx, &fleet, tls).await.0.unwrap();
        assert_eq!(by_series(&receiver.samples()).0, fleet.expected(0..3));
    }
}

/// nginx in front of a receiver, which lets in whom this authority has signed.
fn with_clients_of(authority: &Authority, receiver: &WriteReceiver, server: &Pair) -> Nginx {
    let wanted = format!(
        "ssl_verify_client on; ssl_client_certificate {};",
        authority.certificate().display()
    );
    Nginx::with_certificate(receiver.address(), server, &wanted)
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_wait_for_a_client_certificate_that_the_receiver_wants() {
    require!(Program("nginx"), Program("openssl"));
    let authority = Authority::new();
    let server = authority.sound("server");
    let receiver = WriteReceiver::start();
    let nginx = with_clients_of(&authority, &receiver, &server);
    let fleet = Fleet::until_now(2, 3);
    // nginx refuses with a 400, which is not about the samples.
    let without = json!({"ca_file": authority.certificate()});
    let (flushed, waiting_without) = written(&nginx, &fleet, &without).await;
    let told = flushed.unwrap_err();
    assert!(
        told.contains("No required SSL certificate was sent"),
        "{told}"
    );
    assert_eq!(waiting_without, 12.0);

    // One that has expired, and is replaced while the sink runs.
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("client.pem"),
        directory.path().join("client.key"),
    );
    let expired = authority.signed("expired", LOCAL, "20200101", "20200201");
    copy(&expired.certificate, &certificate);
    copy(&expired.key, &key);
    let own = json!({"tls": {
        "ca_file": authority.certificate(), "cert_file": certificate, "key_file": key,
    }});
    let sink = sink(&url(&nginx), own);
    for cycle in 0..3 {
        sink.publish(fleet.report(cycle, &[]));
    }
    let told = sink.flush().await.unwrap_err().to_string();
    assert!(told.contains("The SSL certificate error"), "{told}");
    let sound = authority.sound("client");
    copy(&sound.key, &key);
    copy(&sound.certificate, &certificate);
    wait::until_true("all samples", || {
        by_series(&receiver.samples()).0 == fleet.expected(0..3)
    });
    // The sink hears of it after the receiver has them.
    wait::until_true("nothing that waits", || waiting(&*sink) == 0.0);
    assert_eq!(lost(&*sink, "refused"), 0.0);
}
